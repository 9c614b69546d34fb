#include "tests.h"

#include "../include/cuda_bf16.h"
#include "../include/cuda_fp16.h"
#include "../include/cuda_fp8.h"

template <typename Half>
static void every_value_survives() {
    for (unsigned bits = 0; bits < 65536; bits++) {
        const Half value = Half::from_bits(uint16_t(bits));
        if (!std::isnan(float(value))) CHECK(Half(float(value)).bits == bits);
    }
}

void test_halves() {
    every_value_survives<__half>();
    every_value_survives<__nv_bfloat16>();

    const auto half = [](double x) { return float(__half(x)); };
    CHECK(half(1 + 0x1p-11) == 1);  // ties go to even
    CHECK(half(1 + 0x3p-11) == 1 + 0x1p-9f);
    CHECK(half(65519) == 65504);
    CHECK(half(65520) == INFINITY && half(-1e9) == -INFINITY);
    CHECK(half(0x1p-24) == 0x1p-24f && half(0x1p-25) == 0 &&
          half(0x3p-26) == 0x1p-24f);  // subnormals
    CHECK(std::isnan(half(NAN)));

    const auto brain = [](double x) { return float(__nv_bfloat16(x)); };
    CHECK(brain(1 + 0x1p-8) == 1);
    CHECK(brain(1 + 0x3p-8) == 1 + 0x1p-6f);
    CHECK(brain(3.4e38) == INFINITY && std::isnan(brain(NAN)));

    // Rounded after every operation: 2048 + 1 is 2048 in half.
    CHECK(float(__half(2048) + __half(1) + __half(1)) == 2048);

    for (unsigned bits = 0; bits < 256; bits++) {
        const float value = __nv_cvt_fp8_to_halfraw(uint8_t(bits), __NV_E4M3);
        if (!std::isnan(value)) CHECK(__nv_fp8_e4m3(value).__x == bits);
    }
    CHECK(__nv_fp8_e4m3(1e6f).__x == 0x7e);
}
