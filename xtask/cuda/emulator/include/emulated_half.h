// 16-bit floats for the host: stored as bits, computed in float, rounded to nearest even after
// every operation, as the device does.
#pragma once

#include "cuda_runtime.h"

struct EmulatedBinary16 {  // 1 sign, 5 exponent, 10 fraction bits
    static float decode(uint16_t bits) {
        const unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
        float magnitude;
        if (exponent == 0) magnitude = std::ldexp(float(fraction), -24);
        else if (exponent < 31) magnitude = std::ldexp(float(1024 + fraction), int(exponent) - 25);
        else magnitude = fraction ? NAN : INFINITY;
        return bits & 0x8000 ? -magnitude : magnitude;
    }
    static uint16_t encode(float value) {
        const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
        const float magnitude = std::fabs(value);
        if (std::isnan(value)) return 0x7fff;
        if (magnitude == 0) return sign;
        if (magnitude >= 65520) return sign | 0x7c00;  // halfway past the largest, 65504
        int exponent;
        std::frexp(magnitude, &exponent);
        if (exponent < -13) exponent = -13;  // subnormals share the smallest exponent
        // nearbyint rounds halves to even; a carry out of the fraction runs into the exponent.
        const auto fraction = unsigned(std::nearbyint(std::ldexp(magnitude, 11 - exponent)));
        return uint16_t(sign | (((exponent + 13) << 10) + fraction));
    }
};

struct EmulatedBrain16 {  // the upper half of a float
    static float decode(uint16_t bits) { return __uint_as_float(unsigned(bits) << 16); }
    static uint16_t encode(float value) {
        if (std::isnan(value)) return 0x7fff;
        const unsigned bits = __float_as_uint(value);
        return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
};

template <typename Format>
struct Emulated16 {
    uint16_t bits;

    Emulated16() = default;
    template <typename T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
    Emulated16(T value) : bits(Format::encode(float(value))) {}
    operator float() const { return Format::decode(bits); }

    static Emulated16 from_bits(uint16_t bits) {
        Emulated16 value;
        value.bits = bits;
        return value;
    }

    friend Emulated16 operator+(Emulated16 a, Emulated16 b) { return float(a) + float(b); }
    friend Emulated16 operator-(Emulated16 a, Emulated16 b) { return float(a) - float(b); }
    friend Emulated16 operator*(Emulated16 a, Emulated16 b) { return float(a) * float(b); }
    friend Emulated16 operator/(Emulated16 a, Emulated16 b) { return float(a) / float(b); }
    friend Emulated16 operator-(Emulated16 a) { return -float(a); }
    friend Emulated16& operator+=(Emulated16& a, Emulated16 b) { return a = a + b; }
    friend Emulated16& operator-=(Emulated16& a, Emulated16 b) { return a = a - b; }
    friend Emulated16& operator*=(Emulated16& a, Emulated16 b) { return a = a * b; }
    friend Emulated16& operator/=(Emulated16& a, Emulated16 b) { return a = a / b; }
    friend bool operator==(Emulated16 a, Emulated16 b) { return float(a) == float(b); }
    friend bool operator!=(Emulated16 a, Emulated16 b) { return float(a) != float(b); }
    friend bool operator<(Emulated16 a, Emulated16 b) { return float(a) < float(b); }
    friend bool operator>(Emulated16 a, Emulated16 b) { return float(a) > float(b); }
    friend bool operator<=(Emulated16 a, Emulated16 b) { return float(a) <= float(b); }
    friend bool operator>=(Emulated16 a, Emulated16 b) { return float(a) >= float(b); }

    friend bool __hisnan(Emulated16 a) { return std::isnan(float(a)); }
    friend Emulated16 __habs(Emulated16 a) { return std::fabs(float(a)); }
    friend Emulated16 __hmax(Emulated16 a, Emulated16 b) { return std::fmax(float(a), float(b)); }
    friend Emulated16 __hmin(Emulated16 a, Emulated16 b) { return std::fmin(float(a), float(b)); }
    friend Emulated16 __hmax_nan(Emulated16 a, Emulated16 b) { return __hisnan(a) || a > b ? a : b; }
    friend Emulated16 __hmin_nan(Emulated16 a, Emulated16 b) { return __hisnan(a) || a < b ? a : b; }
    friend Emulated16 hsqrt(Emulated16 a) { return std::sqrt(float(a)); }
    friend Emulated16 hexp(Emulated16 a) { return std::exp(float(a)); }
    friend Emulated16 hlog(Emulated16 a) { return std::log(float(a)); }
    friend Emulated16 hsin(Emulated16 a) { return std::sin(float(a)); }
    friend Emulated16 hcos(Emulated16 a) { return std::cos(float(a)); }
};

template <typename Format>
struct alignas(4) Emulated16Pair {
    Emulated16<Format> x, y;

    friend Emulated16Pair __hadd2(Emulated16Pair a, Emulated16Pair b) { return {a.x + b.x, a.y + b.y}; }
    friend Emulated16Pair __hsub2(Emulated16Pair a, Emulated16Pair b) { return {a.x - b.x, a.y - b.y}; }
    friend Emulated16Pair __hmul2(Emulated16Pair a, Emulated16Pair b) { return {a.x * b.x, a.y * b.y}; }
    friend Emulated16Pair __h2div(Emulated16Pair a, Emulated16Pair b) { return {a.x / b.x, a.y / b.y}; }
};
