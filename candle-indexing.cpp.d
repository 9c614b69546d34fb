candle-indexing.cpp.o: \
 /tmp/t-emulator/cuda-emulator/made/candle-indexing.cpp.part \
 xtask/cuda/emulator/include/cuda_runtime.h \
 xtask/cuda/emulator/include/emulated_kernel.h \
 /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/candle-kernels-0.11.1/src/cuda_utils.cuh \
 /root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/candle-kernels-0.11.1/src/compatibility.cuh \
 xtask/cuda/emulator/include/cuda_fp16.h \
 xtask/cuda/emulator/include/emulated_half.h \
 xtask/cuda/emulator/include/cuda_bf16.h \
 xtask/cuda/emulator/include/cuda_fp8.h
