// attention_decode_ref.cpp: the CPU twin of attention_decode.wgsl.
#include <algorithm>
#include <cmath>

#include "base/half.hpp"
#include "kernels/attention_decode/attention_decode.hpp"
#include "kernels/slot.hpp"

namespace ms {
void attention_decode_ref(const gpu::HostDispatch& d) { }
}
