// Launches the kernel of `batched_nms`: checks what its indices assume.
#include "batched_nms.cuh"
#include "batched_nms.h"
#include "launcher.h"

namespace hpvod {

const char* launch_batched_nms(const BatchedNms& params, Stream stream) {
  if (!is_index({params.batch}) || !is_index({params.candidates}) || !is_index({params.count})) {
    return "none of N, K and count must exceed 2^30";
  }
  if (params.batch == 0) return nullptr;
  return launch(batched_nms_image, dim3(static_cast<unsigned>(params.batch)), dim3(kNmsThreads), 0,
                stream, params.boxes, params.labels, params.order, params.valid,
                static_cast<int>(params.candidates), static_cast<int>(params.count),
                params.threshold, params.indices, params.counts);
}

}  // namespace hpvod
