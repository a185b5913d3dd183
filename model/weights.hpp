// weights.hpp: tensors on their way from a file to the GPU, packed for the kernels.
//
// Tensors stream through four pieces of memory of 16 MiB at most: host memory beyond the file's
// mapping stays small.
#pragma once
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/thread_pool.hpp"
#include "formats/model_file.hpp"
#include "gpu/device.hpp"
#include "model/config.hpp"
#include "model/graph.hpp"

namespace ms {

// Tensors by name. A tensor without data stands for random weights of its shape.
struct Catalog {
  std::string source;  // for messages
  std::map<std::string, TensorInfo, std::less<>> tensors;

  static Catalog of(const ModelFile& file);
  // A Llama of this shape, or a mixture of experts, norms f32; its matrices of a type, or as
  // llama.cpp's mixes q4_k_m and q5_k_m have them: the output, and in half of the layers the values
  // and the down projections, are q6_k. Whether the output has weights of its own or the
  // embedding's. Throws std::invalid_argument for a type without kernels.
  static Catalog synthetic(const Config& config, std::string_view type, bool tied);

  const TensorInfo* find(std::string_view name) const;
  // Throws Error: absent, or of another shape.
  const TensorInfo& get(const std::string& name, std::vector<uint64_t> shape) const;
};

// Gives matrices their places first, and sends their bytes when all have one.
class WeightLoader {
 public:
  // Rows are packed by the tile (kernels/weight.hpp). progress(bytes done, bytes in all), of the
  // catalog.
  WeightLoader(gpu::Device& device, const Catalog& catalog, uint32_t row_tile,
               std::function<void(uint64_t, uint64_t)> progress);

  // From here on matrices are of this layer, which lie one behind the other, and behind those of
  // the layer before as far as a binding reaches: kernels may have several in one binding.
  void begin_layer(uint32_t layer);

  // One or more matrices of a width, their rows one after the other: a weight for each run of one
  // type, all in the same buffers.
  std::vector<Weight> stack_runs(const std::vector<const TensorInfo*>& matrices);
  // The same of one type.
  Weight stack(const std::vector<const TensorInfo*>& matrices);
  // Two of the same shape, their rows in turn.
  Weight interleave(const TensorInfo& even, const TensorInfo& odd);
  // One or more vectors, one behind the other, as f32.
  gpu::View vector(const std::vector<const TensorInfo*>& vectors);
  // Throws Error for a tensor that none of the above was given: a graph without it would compute
  // something else than the model. But not for what only repeats numbers that the config has.
  void require_all_used() const;

  // Reads, packs and sends the matrices, and waits until the device has them. The catalog and its
  // file must still be there.
  void send();

  std::vector<gpu::BufferPtr> take() { return std::move(memory_); }  // owns what the views name
  uint64_t packed_bytes() const { return packed_bytes_; }

 private:
  // Where weights are packed, one behind the other.
  struct Room {
    gpu::Buffer *quants = nullptr, *scales = nullptr;
    uint64_t quants_used = 0, scales_used = 0;  // bytes

    bool holds(uint64_t more_quants, uint64_t more_scales) const {
      const auto fits = [](const gpu::Buffer* buffer, uint64_t used, uint64_t more) {
        return more == 0 || (buffer && used + more <= buffer->bytes);
      };
      return fits(quants, quants_used, more_quants) && fits(scales, scales_used, more_scales);
    }
  };
  // Of bytes, 0 for no scales: the layers', or new memory in the name of a tensor.
  Room room(uint64_t quants, uint64_t scales, const TensorInfo& tensor);
  // Bytes of rows of a tensor's type and width, as far as the next weight may begin. Throws Error
  // for a type without kernels.
  std::pair<uint64_t, uint64_t> packed_size(const TensorInfo& like, uint64_t rows) const;
  // Row r of the packed tensor is row source(r).second of tensor source(r).first.
  Weight pack(const TensorInfo& like, uint64_t rows,
              std::function<std::pair<const TensorInfo*, uint64_t>(uint64_t)> source, Room& room);
  void send_rows(const TensorInfo& like, uint64_t rows,
                 const std::function<std::pair<const TensorInfo*, uint64_t>(uint64_t)>& source,
                 const Room& room);
  gpu::Buffer& place(uint64_t bytes, std::string_view name);
  // Of a layer's matrices, quants and scales.
  std::pair<uint64_t, uint64_t> layer_size(uint32_t layer) const;

  gpu::Device& device_;
  const Catalog& catalog_;
  uint32_t row_tile_;
  std::function<void(uint64_t, uint64_t)> progress_;
  uint64_t done_ = 0, all_, packed_bytes_ = 0;
  Room layers_;  // for the layers that it has memory for
  ThreadPool pool_;
  gpu::Uploads uploads_;
  std::vector<gpu::BufferPtr> memory_;
  std::set<std::string_view> used_;
  std::vector<std::function<void()>> pending_;  // of send()
};

// For architectures: the tensors of layer i, "blk.i.NAME". Throws Error for one that is missing or
// of another shape.
class LayerLoader {
 public:
  LayerLoader(WeightLoader& loader, const Catalog& catalog, const Config& config, uint32_t layer)
      : loader_(loader), catalog_(catalog), config_(config), layer_(layer) {
    loader.begin_layer(layer);
  }

  const Config& config() const { return config_; }
  gpu::View vector(std::string_view name, uint64_t size);
  Weight matrix(std::string_view name, std::vector<uint64_t> shape);
  // attn_q, attn_k and attn_v in one matrix as far as their types allow, and their biases where
  // there are or must be any.
  Linear qkv();
  // attn_q_norm and attn_k_norm.
  gpu::View qk_norms();
  // ffn_gate, ffn_up and ffn_down; with experts ffn_gate_exps and so on.
  GatedFfn gated_ffn();

 private:
  const TensorInfo* get(std::string_view name, std::vector<uint64_t> shape);

  WeightLoader& loader_;
  const Catalog& catalog_;
  const Config& config_;
  uint32_t layer_;
};

}  // namespace ms
