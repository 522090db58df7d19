// The runtime API by which launchers learn about GPUs, and a few to learn about: by how many
// multiprocessors they have, and whether the kernels were compiled for one with tensor cores.
#pragma once

#include <cstddef>
#include <map>

#include "launch.h"

enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
struct cudaFuncAttributes {
  int ptxVersion;
};

namespace simt {

struct Device {
  int multiprocessors;
  int ptx_version;
};

// Of a few blocks, that full rounds be many; of many, that tiles be cut.
constexpr Device kDevices[] = {{3, 52}, {3, 90}, {40, 52}, {40, 90}};
inline int current_device = 0;

}  // namespace simt

inline cudaError_t cudaGetDevice(int* device) {
  *device = simt::current_device;
  return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int device) {
  *value = simt::kDevices[device].multiprocessors;
  return cudaSuccess;
}

inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int,
                                                                 size_t) {
  *blocks = 1;
  return cudaSuccess;
}

inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  attributes->ptxVersion = simt::kDevices[simt::current_device].ptx_version;
  return cudaSuccess;
}

inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  if (bytes > static_cast<int>(simt::kMaxOptInSharedBytes)) return cudaErrorInvalidValue;
  simt::granted_shared_bytes[kernel] = static_cast<size_t>(bytes);
  return cudaSuccess;
}
