// kernel_export.hpp: the kernels as files for other engines: WGSL, a description, cases.
#pragma once
#include <filesystem>
#include <functional>

#include "gpu/device.hpp"

namespace ms {

// Writes into a folder:
//   wgsl/VARIANT/NAME.wgsl   a kernel's module for devices with subgroups, and for any
//   ("portable").
//                            Constants of the prelude are a `const` line with the default.
//   kernels.json             what each kernel computes, binds, takes and refuses, and what it
//   replaces kernels.d.ts             the names among that as TypeScript types cases/NAME.json,
//   .bin    dispatches of the rooms' tests, with what the twins make of them
// The device only holds the cases' data: nothing that is exported depends on what it computes.
void export_kernels(const std::filesystem::path& folder, const gpu::DeviceOptions& options,
                    const std::function<void(size_t, size_t)>& progress);

}  // namespace ms
