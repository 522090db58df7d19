// masked_conv2d: the schema, and the CPU's implementation.
#include "masked_conv2d.h"

#include "../cpu/masked_conv2d.h"
#include "share_work.h"

namespace hpvod {
namespace {

void masked_conv2d(Tensor out, Tensor x, Tensor weight, std::optional<Tensor> bias,
                   std::optional<Tensor> residual, Tensor pixels, Tensor count,
                   std::vector<int64_t> kernel, int64_t stride, int64_t padding, int64_t dilation,
                   bool relu) {
  const MaskedConv2d params = check_masked_conv2d(out, x, weight, bias, residual, pixels, count,
                                                  kernel, stride, padding, dilation, relu);
  const auto wide = params.shape.dtype == DType::kFloat64 ? ScalarType::Double : ScalarType::Float;
  STD_TORCH_CHECK(is_vector_of(weight, wide, out) &&
                      weight.size(0) == packed_conv2d_weight_size(
                                            params.shape.dtype, params.shape.out_channels,
                                            kernel[0] * kernel[1] * params.shape.in_channels),
                  "masked_conv2d_: weight must come from pack_conv2d_weight, for maps of ",
                  "out's dtype and these channels and kernel");
  const Range range = masked_conv2d_range(params);
  share_work(range, [&](int64_t begin, int64_t end) { masked_conv2d_cpu(params, begin, end); });
}

Tensor pack_conv2d_weight(Tensor weight) {
  const auto dtype = dtype_of(weight);
  STD_TORCH_CHECK(weight.dim() == 4 && dtype,
                  "pack_conv2d_weight: weight must be [O, I, kernel_height, kernel_width] in "
                  "float32, float16, bfloat16 or float64, not ",
                  shape_text(weight));
  const int64_t taps = weight.size(2) * weight.size(3);
  const int64_t sizes[] = {
      packed_conv2d_weight_size(*dtype, weight.size(0), taps * weight.size(1))};
  const auto wide = *dtype == DType::kFloat64 ? ScalarType::Double : ScalarType::Float;
  const Tensor packed = torch::stable::empty({sizes, 1}, wide, std::nullopt, weight.device());
  weight = torch::stable::contiguous(weight);
  pack_conv2d_weight_cpu({*dtype, weight.size(0), weight.size(1), taps, weight.const_data_ptr(),
                          packed.mutable_data_ptr()});
  return packed;
}

}  // namespace
}  // namespace hpvod

STABLE_TORCH_LIBRARY_FRAGMENT(hpvod, m) {
  m.def(
      "masked_conv2d_(Tensor(a!) out, Tensor x, Tensor weight, Tensor? bias, Tensor? residual, "
      "Tensor pixels, Tensor count, int[] kernel, int stride, int padding, int dilation, "
      "bool relu) -> ()");
  m.def("pack_conv2d_weight(Tensor weight) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(hpvod, CPU, m) {
  m.impl("masked_conv2d_", TORCH_BOX(&hpvod::masked_conv2d));
  m.impl("pack_conv2d_weight", TORCH_BOX(&hpvod::pack_conv2d_weight));
}
