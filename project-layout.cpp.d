project-layout.cpp.o: /tmp/cuda-emulator/made/project-layout.cpp.part \
 /work/wt-emulator/xtask/cuda/emulator/include/cuda_runtime.h \
 /work/wt-emulator/xtask/cuda/emulator/include/emulated_kernel.h \
 /work/main/crates/ops/src/cuda/kernels/packs.cuh \
 /work/wt-emulator/xtask/cuda/emulator/include/cuda_bf16.h \
 /work/wt-emulator/xtask/cuda/emulator/include/emulated_half.h \
 /work/wt-emulator/xtask/cuda/emulator/include/cuda_fp16.h
