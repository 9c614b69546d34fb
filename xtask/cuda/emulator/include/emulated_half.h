// 16-bit floats for the host: stored as bits, computed in float, rounded to nearest even after
// every operation, as the device does.
#pragma once

#include "cuda_runtime.h"

struct EmulatedBinary16 {  // 1 sign, 5 exponent (bias 15), 10 fraction bits
    static float decode(uint16_t bits) {
        // A float with the same fields is too small by the difference of the biases, 127 - 15.
        float magnitude = __uint_as_float((bits & 0x7fffu) << 13) * 0x1p112f;
        if (magnitude >= 65536) magnitude = bits & 1023 ? NAN : INFINITY;
        return bits & 0x8000 ? -magnitude : magnitude;
    }
    static uint16_t encode(float value) {
        const unsigned sign = std::signbit(value) ? 0x8000 : 0;
        const float magnitude = std::fabs(value);
        const unsigned bits = __float_as_uint(magnitude);
        if (std::isnan(value)) return 0x7fff;
        if (magnitude >= 65520) return uint16_t(sign | 0x7c00);  // halfway past the largest, 65504
        // Subnormal halves are multiples of 2^-24, which is what floats from 0.5 on are rounded to.
        if (magnitude < 0x1p-14f)
            return uint16_t(sign | (__float_as_uint(magnitude + 0.5f) - __float_as_uint(0.5f)));
        return uint16_t(sign | ((bits - (112u << 23) + 0xfff + (bits >> 13 & 1)) >> 13));
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
    friend Emulated16 __hmax_nan(Emulated16 a, Emulated16 b) {
        return __hisnan(a) || a > b ? a : b;
    }
    friend Emulated16 __hmin_nan(Emulated16 a, Emulated16 b) {
        return __hisnan(a) || a < b ? a : b;
    }
    friend Emulated16 hsqrt(Emulated16 a) { return std::sqrt(float(a)); }
    friend Emulated16 hexp(Emulated16 a) { return std::exp(float(a)); }
    friend Emulated16 hlog(Emulated16 a) { return std::log(float(a)); }
    friend Emulated16 hsin(Emulated16 a) { return std::sin(float(a)); }
    friend Emulated16 hcos(Emulated16 a) { return std::cos(float(a)); }
};

template <typename Format>
struct alignas(4) Emulated16Pair {
    Emulated16<Format> x, y;

    friend Emulated16Pair __hadd2(Emulated16Pair a, Emulated16Pair b) {
        return {a.x + b.x, a.y + b.y};
    }
    friend Emulated16Pair __hsub2(Emulated16Pair a, Emulated16Pair b) {
        return {a.x - b.x, a.y - b.y};
    }
    friend Emulated16Pair __hmul2(Emulated16Pair a, Emulated16Pair b) {
        return {a.x * b.x, a.y * b.y};
    }
    friend Emulated16Pair __h2div(Emulated16Pair a, Emulated16Pair b) {
        return {a.x / b.x, a.y / b.y};
    }
};
