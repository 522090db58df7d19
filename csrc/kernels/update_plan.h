// U (Eq. 6), the key decision (Eq. 9) and the lists of pixels that a frame's layers compute and
// read. See hpvod_ops/ops/update_plan.py for what it computes; this is the seam between the
// kernels and their callers.
#pragma once

#include "dtype.h"
#include "stream.h"

namespace hpvod {

// Which pixels of a layer a list holds. A pixel (y, x) is active where U is 1 at
// (min(y / ratio, h - 1), min(x / ratio, w - 1)), and in the halo where it is not active but an
// active pixel lies at (y + i * dilation, x + j * dilation) for some i and j of -1, 0, 1. Reached
// are both of them; inactive all but the active ones.
enum class PixelSetKind : int32_t { kActive, kHalo, kReached, kInactive };

struct PixelSet {
  PixelSetKind kind;
  int32_t ratio;     // pixels of the layer a pixel of Q, in each direction
  int32_t dilation;  // read by kHalo and kReached
  int32_t height;    // of the layer, in its pixels
  int32_t width;
  int64_t offset;  // in `pixels`: where the list's N * height * width places begin
};

constexpr int kMaxPixelSets = 16;

struct UpdatePlan {
  int64_t batch;           // N
  int64_t height;          // h, of Q
  int64_t width;           // w
  DType dtype;             // of Q
  double tau;              // U is 1 where Q <= tau, rounded to Q's dtype first, as torch compares
  double gamma;            // a frame is a key frame where more than this share of U is 1
  const void* q;           // [N, h, w], contiguous
  const bool* forced_key;  // [N], or null: decides in place of Eq. 9
  bool* mask;              // [N, h, w]: U, all ones for a key frame
  bool* is_key;            // [N]
  int32_t* changed;        // [N]: positions where Q <= tau, whether a key frame or not
  int32_t set_count;       // L
  PixelSet sets[kMaxPixelSets];
  int32_t* pixels;  // of each list, rising indices into [N, height, width]
  int32_t* counts;  // [L]: of each list, how many
  void* workspace;  // as many bytes as the backend asks for
};

// CUDA (update_plan.cu). A launch returns null, or CUDA's words for what went wrong.
const char* launch_update_plan(const UpdatePlan& params, Stream stream);
int64_t update_plan_workspace(const UpdatePlan& params);

}  // namespace hpvod
