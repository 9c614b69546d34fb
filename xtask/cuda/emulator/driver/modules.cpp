// Modules and launches. A module's code is not run: its kernels come from libraries in the folder
// `kernels` beside this one, compiled from the same sources, and are found by name.

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include <dirent.h>
#include <dlfcn.h>

#include "counts.h"
#include "driver.h"
#include "execution.h"
#include "streams.h"

struct CUmod_st {
    std::string ptx;
};

struct CUfunc_st {
    EmulatedKernel kernel;
};

namespace {

std::unordered_map<std::string, CUfunc_st>& kernels =
    *new std::unordered_map<std::string, CUfunc_st>;

// Opening a library runs its initialisers, which add its kernels.
void open_libraries() {
    Dl_info self;
    if (!dladdr(reinterpret_cast<void*>(&open_libraries), &self))
        emulated::fail("the driver can't find itself");
    std::string folder = self.dli_fname;
    folder = folder.substr(0, folder.rfind('/') + 1) + "kernels/";
    DIR* entries = opendir(folder.c_str());
    if (!entries) emulated::fail("no kernels in %s", folder.c_str());
    while (const dirent* entry = readdir(entries)) {
        const std::string name = entry->d_name;
        if (name.size() < 3 || name.substr(name.size() - 3) != ".so") continue;
        if (!dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL))
            emulated::fail("%s", dlerror());
    }
    closedir(entries);
}

// Real PTX lists its kernels; a stand-in compiler leaves it empty, and what fat binaries hold is
// compressed. Then any name will do.
bool may_hold(const CUmod_st& module, const std::string& name) {
    return module.ptx.find(".entry") == std::string::npos ||
           module.ptx.find(".entry " + name + "(") != std::string::npos;
}

// A launch's own copy of its arguments, which the caller may change as soon as the call returns.
struct Arguments {
    std::vector<std::vector<std::max_align_t>> values;
    std::vector<void*> pointers;

    Arguments(const EmulatedKernel& kernel, void** parameters) {
        for (size_t i = 0; i < kernel.sizes.size(); i++) {
            values.emplace_back(kernel.sizes[i] / sizeof(std::max_align_t) + 1);
            pointers.push_back(values.back().data());
            std::memcpy(pointers.back(), parameters[i], kernel.sizes[i]);
        }
    }
};

}  // namespace

API void emulated_add_kernel(const EmulatedKernel& kernel) {
    if (!kernels.insert({kernel.name, {kernel}}).second)
        emulated::fail("two kernels are called %s", kernel.name);
}

API CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    REQUIRE_CONTEXT();
    static std::once_flag once;
    std::call_once(once, open_libraries);
    constexpr unsigned FAT_BINARY = 0xBA55ED50;
    unsigned first = 0;
    std::memcpy(&first, image, 1);  // text may be one byte long
    if (first) std::memcpy(&first, image, strnlen(static_cast<const char*>(image), sizeof first));
    *module = new CUmod_st{first == FAT_BINARY ? "" : static_cast<const char*>(image)};
    return CUDA_SUCCESS;
}

API CUresult cuModuleUnload(CUmodule module) {
    delete module;
    return CUDA_SUCCESS;
}

API CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    REQUIRE_CONTEXT();
    const auto found = kernels.find(name);
    if (found == kernels.end() || !may_hold(*module, name)) return CUDA_ERROR_NOT_FOUND;
    *function = &found->second;
    return CUDA_SUCCESS;
}

API CUresult cuFuncSetAttribute(CUfunction, int, int) { return emulated::require_context(); }

API CUresult cuFuncSetCacheConfig(CUfunction, int) { return emulated::require_context(); }

API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int threads,
                                                         size_t) {
    *blocks = threads > 0 ? 2048 / threads : 0;
    return CUDA_SUCCESS;
}

API CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                            unsigned block_x, unsigned block_y, unsigned block_z,
                            unsigned shared_bytes, CUstream stream, void** parameters,
                            void** extra) {
    REQUIRE_CONTEXT();
    const bool empty = !grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z;
    const bool too_large = grid_x > 2147483647 || grid_y > 65535 || grid_z > 65535 ||
                           block_x > 1024 || block_y > 1024 || block_z > 64 ||
                           block_x * block_y * block_z > 1024 || shared_bytes > 49152;
    if (!function || empty || too_large || extra) return CUDA_ERROR_INVALID_VALUE;
    if (emulated::idle()) {
        emulated_count(function->kernel.name);
        return CUDA_SUCCESS;
    }
    auto arguments = std::make_shared<Arguments>(function->kernel, parameters);
    emulated_compute(stream, function->kernel.name, [=] {
        emulated::launch(function->kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z},
                         shared_bytes, arguments->pointers.data());
    });
    return CUDA_SUCCESS;
}
