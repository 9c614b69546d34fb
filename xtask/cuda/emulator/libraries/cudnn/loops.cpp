#include "loops.h"

namespace emulated {
namespace {

// Calls `use` with the place of each element in memory and its channels-last number.
template <typename Use>
void each_element(const Block& block, Use use) {
    size_t number = 0;
    for (int n = 0; n < block.n; n++)
        for (int h = 0; h < block.h; h++)
            for (int w = 0; w < block.w; w++)
                for (int c = 0; c < block.c; c++) use(block.at(n, c, h, w), number++);
}

template <typename Use>
void each_tap_value(const Convolution& convolution, bool flipped, Use use) {
    const Block& filter = convolution.filter;
    const size_t in = convolution.group_in(), out = convolution.group_out();
    for (int k = 0; k < filter.n; k++)
        for (size_t c = 0; c < in; c++)
            for (int h = 0; h < filter.h; h++)
                for (int w = 0; w < filter.w; w++) {
                    const size_t tap = ((k / out) * filter.h + h) * filter.w + w, o = k % out;
                    use(filter.at(k, c, h, w),
                        tap * in * out + (flipped ? o * in + c : c * out + o));
                }
}

// With beta 0 the old value isn't read: it may be NaN.
template <typename T>
void blend(T& place, double value, float alpha, float beta) {
    place = float(alpha * value + (beta == 0 ? 0 : beta * float(place)));
}

}  // namespace

Floats read_image(const Block& block, const void* data) {
    Floats out(block.count());
    as_typed(block.type, data, [&](auto* values) {
        each_element(block,
                     [&](size_t place, size_t number) { out[number] = float(values[place]); });
    });
    return out;
}

void write_image(const Block& block, const Floats& values, float alpha, float beta, void* data) {
    as_typed(block.type, data, [&](auto* out) {
        each_element(block, [&](size_t place, size_t number) {
            blend(out[place], values[number], alpha, beta);
        });
    });
}

Floats read_filter(const Convolution& convolution, const void* data, bool flipped) {
    Floats taps(convolution.filter.count());
    as_typed(convolution.filter.type, data, [&](auto* values) {
        each_tap_value(convolution, flipped,
                       [&](size_t place, size_t number) { taps[number] = float(values[place]); });
    });
    return taps;
}

void write_filter(const Convolution& convolution, const std::vector<double>& taps, float alpha,
                  float beta, void* data) {
    as_typed(convolution.filter.type, data, [&](auto* out) {
        each_tap_value(convolution, false, [&](size_t place, size_t number) {
            blend(out[place], taps[number], alpha, beta);
        });
    });
}

Floats forward(const Convolution& convolution, const Floats& x, const Floats& taps) {
    Floats y(convolution.y.count(), 0.0f);
    const size_t in = convolution.group_in(), out = convolution.group_out();
    convolution.each_tap([&](size_t from, size_t to, size_t tap) {
        for (size_t i = 0; i < in; i++)
            for (size_t o = 0; o < out; o++) y[to + o] += x[from + i] * taps[tap + i * out + o];
    });
    return y;
}

Floats input_gradient(const Convolution& convolution, const Floats& flipped_taps,
                      const Floats& y_gradient) {
    Floats x(convolution.x.count(), 0.0f);
    const size_t in = convolution.group_in(), out = convolution.group_out();
    convolution.each_tap([&](size_t to, size_t from, size_t tap) {
        for (size_t o = 0; o < out; o++)
            for (size_t i = 0; i < in; i++)
                x[to + i] += y_gradient[from + o] * flipped_taps[tap + o * in + i];
    });
    return x;
}

std::vector<double> filter_gradient(const Convolution& convolution, const Floats& x,
                                    const Floats& y_gradient) {
    std::vector<double> taps(convolution.filter.count(), 0.0);
    const size_t in = convolution.group_in(), out = convolution.group_out();
    convolution.each_tap([&](size_t from, size_t to, size_t tap) {
        for (size_t i = 0; i < in; i++)
            for (size_t o = 0; o < out; o++)
                taps[tap + i * out + o] += double(x[from + i]) * y_gradient[to + o];
    });
    return taps;
}

}  // namespace emulated
