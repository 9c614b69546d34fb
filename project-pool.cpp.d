project-pool.cpp.o: \
 /tmp/t-emulator/cuda-emulator/made/project-pool.cpp.part \
 xtask/cuda/emulator/include/cuda_runtime.h \
 xtask/cuda/emulator/include/emulated_kernel.h \
 /work/wt-emulator/crates/ops/src/cuda/kernels/packs.cuh \
 xtask/cuda/emulator/include/cuda_bf16.h \
 xtask/cuda/emulator/include/emulated_half.h \
 xtask/cuda/emulator/include/cuda_fp16.h \
 /work/wt-emulator/crates/ops/src/cuda/kernels/place.cuh
