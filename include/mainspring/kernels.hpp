// kernels.hpp: the kernels on their own: all that a program needs to run one.
//
// A wrapper such as rmsnorm(caps, {…}) checks its arguments and returns gpu::Work, a value; a
// gpu::Device, opened with wgsl_sources(), records and submits it. Example: examples/rmsnorm.cpp.
#pragma once
#include "gpu/device.hpp"
#include "kernels/kernels.hpp"
#include "kernels/kv.hpp"
#include "kernels/slot.hpp"
#include "kernels/sources.hpp"
#include "kernels/weight.hpp"
