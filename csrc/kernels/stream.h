// What every launcher takes besides its parameters.
#pragma once

struct CUstream_st;

namespace hpvod {

using Stream = CUstream_st*;

}  // namespace hpvod
