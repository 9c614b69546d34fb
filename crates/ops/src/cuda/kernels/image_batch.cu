// Batches of images that lie on the device as bytes: changes each image by its own steps and computes numbers of its
// pixels. See `cuda/image_batch.rs` for the table.
//
// A block takes an image through its steps, one after the other, from one buffer to the other. The arithmetic is
// Pillow's, as in the CPU's form: values of 8 bits between two steps, and no contraction of multiplications and
// additions, because a value that is cut off instead of rounded would show it.

#include "block.cuh"
#include "packs.cuh"

constexpr int MOST_SHARED = 8192;

enum Step {
    WINDOW,
    HORIZONTAL_FLIP,
    VERTICAL_FLIP,
    AFFINE_NEAREST,
    AFFINE_BILINEAR,
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    HUE,
    GRAYSCALE,
    FILL
};

enum Edge { CONSTANT, NEAREST, REFLECT, SYMMETRIC };

typedef unsigned char Byte;

// An image of `channels` interleaved bytes for each pixel.
struct Image {
    const Byte* at;
    int height, width, channels;

    __device__ int pixels() const { return height * width; }
    __device__ const Byte* pixel(int y, int x) const {
        return at + size_t(y * width + x) * channels;
    }
};

// The words of a step, read one after the other.
struct Words {
    const int* at;

    __device__ int next() { return *at++; }
    __device__ float next_float() { return __int_as_float(next()); }
    __device__ long long next_wide() {
        const unsigned low = unsigned(next());
        return (long long)(next()) * 4294967296LL + low;
    }
    __device__ double next_double() { return __longlong_as_double(next_wide()); }
};

// A pixel's place, or none.
struct Place {
    int y, x;
    __device__ bool is_none() const { return y < 0 || x < 0; }
};

// Calls `f` with the number, row and column of each pixel, on all threads of the block.
template <typename F> __device__ void each_pixel(int height, int width, F f) {
    for (int i = threadIdx.x; i < height * width; i += blockDim.x) f(i, i / width, i % width);
}

// A channel of a colour, whose red is in the lowest byte. Grey images have the first.
__device__ inline Byte of_color(int color, int channel) { return Byte(color >> (8 * channel)); }

// Pixels from where `place` says, or of the colour `fill`.
template <typename F>
__device__ Image moved(const Image& from, int height, int width, int fill, Byte* to, F place) {
    const int channels = from.channels;
    each_pixel(height, width, [&](int i, int y, int x) {
        const Place source = place(y, x);
        for (int c = 0; c < channels; c++) {
            to[i * channels + c] =
                source.is_none() ? of_color(fill, c) : from.pixel(source.y, source.x)[c];
        }
    });
    return {to, height, width, channels};
}

// The row (or column) whose content is at `position`. -1 for a constant.
__device__ inline int source(int position, int length, int edge) {
    if (position >= 0 && position < length) return position;
    const int last = length - 1;
    switch (edge) {
    case CONSTANT: return -1;
    case NEAREST: return position < 0 ? 0 : last;
    case REFLECT: return position < 0 ? -position : 2 * last - position;
    default: return position < 0 ? -position - 1 : 2 * last - position + 1;
    }
}

__device__ inline Image window(const Image& from, Words& words, Byte* to) {
    const int top = words.next(), left = words.next();
    const int height = words.next(), width = words.next();
    const int edge = words.next(), fill = words.next();
    return moved(from, height, width, fill, to, [&](int y, int x) {
        return Place{source(top + y, from.height, edge), source(left + x, from.width, edge)};
    });
}

__device__ inline int inside(long long position, int length) {
    const long long place = position >> 16;
    return place >= 0 && place < length ? int(place) : -1;
}

__device__ inline Image affine_nearest(const Image& from, Words& words, Byte* to) {
    const int fill = words.next();
    long long numbers[6];
    for (int i = 0; i < 6; i++) numbers[i] = words.next_wide();
    return moved(from, from.height, from.width, fill, to, [&](int y, int x) {
        const auto at = [&](int axis) {
            return numbers[axis] + numbers[2 + axis] * x + numbers[4 + axis] * y;
        };
        return Place{inside(at(1), from.height), inside(at(0), from.width)};
    });
}

__device__ inline double product_sum(double a, double x, double b, double y, double c) {
    return __dadd_rn(__dadd_rn(__dmul_rn(a, x), __dmul_rn(b, y)), c);
}

__device__ inline double mix(double from, double to, double share) {
    return __dadd_rn(from, __dmul_rn(to - from, share));
}

__device__ inline int clamped(double place, int length) {
    return int(fmin(fmax(place, 0.0), double(length - 1)));
}

__device__ inline Image affine_bilinear(const Image& from, Words& words, Byte* to) {
    const int fill = words.next();
    double m[6];
    for (int i = 0; i < 6; i++) m[i] = words.next_double();
    const int height = from.height, width = from.width, channels = from.channels;
    each_pixel(height, width, [&](int i, int row, int column) {
        const double x = column + 0.5, y = row + 0.5;
        const double source_x = product_sum(m[0], x, m[1], y, m[2]);
        const double source_y = product_sum(m[3], x, m[4], y, m[5]);
        const bool is_inside =
            source_x >= 0.0 && source_x < width && source_y >= 0.0 && source_y < height;
        const double at_x = source_x - 0.5, at_y = source_y - 0.5;
        const double left = floor(at_x), top = floor(at_y);
        for (int c = 0; c < channels; c++) {
            if (!is_inside) {
                to[i * channels + c] = of_color(fill, c);
                continue;
            }
            const auto at = [&](double y, double x) {
                return double(from.pixel(clamped(y, height), clamped(x, width))[c]);
            };
            const double share = at_x - left;
            const double above = mix(at(top, left), at(top, left + 1.0), share);
            const double below = mix(at(top + 1.0, left), at(top + 1.0, left + 1.0), share);
            to[i * channels + c] = Byte(mix(above, below, at_y - top));
        }
    });
    return {to, height, width, channels};
}

// Pillow's `Image.blend`: the fraction is cut off. A NaN is 0.
__device__ inline Byte blend(Byte from, Byte to, float factor) {
    const float start = float(from), value = __fadd_rn(start, __fmul_rn(factor, float(to) - start));
    return value >= 255.0f ? 255 : value > 0.0f ? Byte(value) : 0;
}

__device__ inline Byte luma(const Byte* pixel, int channels) {
    if (channels != 3) return pixel[0];
    return Byte((pixel[0] * 19595u + pixel[1] * 38470u + pixel[2] * 7471u + 0x8000u) >> 16);
}

__device__ inline Byte mean_grey(const Image& image) {
    unsigned long long sum = 0;
    each_pixel(image.height, image.width, [&](int i, int, int) {
        sum += luma(image.at + size_t(i) * image.channels, image.channels);
    });
    return Byte(double(block_sum(sum)) / double(image.pixels()) + 0.5);
}

// `f` of each value.
template <typename F> __device__ Image mapped(const Image& from, Byte* to, F f) {
    const int values = from.pixels() * from.channels;
    for (int i = threadIdx.x; i < values; i += blockDim.x) to[i] = f(from.at[i]);
    return {to, from.height, from.width, from.channels};
}

struct Color {
    Byte red, green, blue;
};

// `f` of each colour. An image of one channel has no colours and does not change.
template <typename F> __device__ Image recolored(const Image& from, Byte* to, F f) {
    if (from.channels != 3) return mapped(from, to, [](Byte value) { return value; });
    each_pixel(from.height, from.width, [&](int i, int, int) {
        const Byte* pixel = from.at + 3 * size_t(i);
        const Color color = f(Color{pixel[0], pixel[1], pixel[2]});
        to[3 * i] = color.red;
        to[3 * i + 1] = color.green;
        to[3 * i + 2] = color.blue;
    });
    return {to, from.height, from.width, 3};
}

__device__ inline Color saturated(Color color, float factor) {
    const Byte pixel[3] = {color.red, color.green, color.blue};
    const Byte grey = luma(pixel, 3);
    return {
        blend(grey, color.red, factor), blend(grey, color.green, factor),
        blend(grey, color.blue, factor)
    };
}

// As `rgb2hsv_row` and `hsv2rgb` in Pillow's `Convert.c`, with `shift` added to the hue between them.
__device__ inline Color with_hue_shifted(Color color, int shift) {
    const int red = color.red, green = color.green, blue = color.blue;
    const int most = max(red, max(green, blue)), least = min(red, min(green, blue));
    if (most == least) return color;
    const float spread = float(most - least);
    const float red_gap = float(most - red) / spread, green_gap = float(most - green) / spread;
    const float blue_gap = float(most - blue) / spread;
    float sextant;
    if (red == most) {
        sextant = blue_gap - green_gap;
    } else if (green == most) {
        sextant = float(2.0 + double(red_gap) - double(blue_gap));
    } else {
        sextant = float(4.0 + double(green_gap) - double(red_gap));
    }
    const double turned = double(sextant) / 6.0 + 1.0;
    const int hue = (int(double(float(turned - floor(turned))) * 255.0) + shift) & 255;
    const int strength = int(double(spread / float(most)) * 255.0);
    if (strength == 0) return {Byte(most), Byte(most), Byte(most)};

    const double position = __dmul_rn(double(hue), 6.0) / 255.0;
    const double whole = floor(position);
    const double fraction = double(float(position - whole));
    const double saturation = double(float(double(strength) / 255.0));
    const auto scaled = [&](double share) { return Byte(round(double(most) * share)); };
    const Byte value = Byte(most);
    const Byte low = scaled(1.0 - saturation);
    const Byte falling = scaled(__dadd_rn(1.0, -__dmul_rn(saturation, fraction)));
    const Byte rising = scaled(__dadd_rn(1.0, -__dmul_rn(saturation, 1.0 - fraction)));
    switch (int(whole) % 6) {
    case 0: return {value, rising, low};
    case 1: return {falling, value, low};
    case 2: return {low, value, rising};
    case 3: return {low, falling, value};
    case 4: return {rising, low, value};
    default: return {value, low, falling};
    }
}

__device__ inline Image grey(const Image& from, int channels, Byte* to) {
    each_pixel(from.height, from.width, [&](int i, int, int) {
        const Byte value = luma(from.at + size_t(i) * from.channels, from.channels);
        for (int c = 0; c < channels; c++) to[i * channels + c] = value;
    });
    return {to, from.height, from.width, channels};
}

__device__ inline Image covered(const Image& from, Words& words, Byte* to) {
    const int top = words.next(), left = words.next();
    const int height = words.next(), width = words.next();
    const int color[3] = {words.next(), words.next(), words.next()};
    each_pixel(from.height, from.width, [&](int i, int y, int x) {
        const bool is_covered = y >= top && y - top < height && x >= left && x - left < width;
        for (int c = 0; c < from.channels; c++) {
            const int at = i * from.channels + c;
            to[at] = is_covered ? Byte(color[c]) : from.at[at];
        }
    });
    return {to, from.height, from.width, from.channels};
}

__device__ inline Image stepped(const Image& from, Words& words, Byte* to) {
    switch (words.next()) {
    case WINDOW: return window(from, words, to);
    case HORIZONTAL_FLIP:
        return moved(from, from.height, from.width, 0, to, [&](int y, int x) {
            return Place{y, from.width - 1 - x};
        });
    case VERTICAL_FLIP:
        return moved(from, from.height, from.width, 0, to, [&](int y, int x) {
            return Place{from.height - 1 - y, x};
        });
    case AFFINE_NEAREST: return affine_nearest(from, words, to);
    case AFFINE_BILINEAR: return affine_bilinear(from, words, to);
    case BRIGHTNESS: {
        const float factor = words.next_float();
        return mapped(from, to, [=](Byte value) { return blend(0, value, factor); });
    }
    case CONTRAST: {
        const float factor = words.next_float();
        const Byte mean = mean_grey(from);
        return mapped(from, to, [=](Byte value) { return blend(mean, value, factor); });
    }
    case SATURATION: {
        const float factor = words.next_float();
        return recolored(from, to, [=](Color color) { return saturated(color, factor); });
    }
    case HUE: {
        const int shift = words.next();
        return recolored(from, to, [=](Color color) { return with_hue_shifted(color, shift); });
    }
    case GRAYSCALE: return grey(from, words.next(), to);
    default: return covered(from, words, to);
    }
}

template <typename T>
__device__ void image_batch(
    int samples, const Byte* images, int height, int width, int channels, const int* table,
    const float* scale, const float* shift, Byte* scratch, size_t most_bytes, int out_len, T* y,
    unsigned* labels
) {
    __shared__ Byte own[2][MOST_SHARED];
    const int *indices = table + samples, *starts = table + 2 * samples;
    for (int sample = blockIdx.x; sample < samples; sample += gridDim.x) {
        const size_t index = unsigned(indices[sample]);
        Image image{images + index * height * width * channels, height, width, channels};
        Words words{table + starts[sample]};
        for (int turn = 0; words.at < table + starts[sample + 1]; turn = 1 - turn) {
            const size_t place = (2 * size_t(blockIdx.x) + turn) * most_bytes;
            image = stepped(image, words, scratch == nullptr ? own[turn] : scratch + place);
            __syncthreads();
        }
        for (int i = threadIdx.x; i < out_len; i += blockDim.x) {
            const int channel = i % image.channels;
            const float number = fmaf(float(image.at[i]), scale[channel], shift[channel]);
            y[size_t(sample) * out_len + i] = narrow<T>(number);
        }
        if (threadIdx.x == 0) labels[sample] = unsigned(table[sample]);
        // The next image goes into the same buffers.
        __syncthreads();
    }
}

#define KERNELS(TYPE, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(256) cv_image_batch_##TYPE(                      \
        int samples, const unsigned char* __restrict__ images, int height, int width,             \
        int channels, const int* __restrict__ table, const float* __restrict__ scale,             \
        const float* __restrict__ shift, unsigned char* scratch, size_t most_bytes, int out_len,  \
        T* __restrict__ y, unsigned* __restrict__ labels                                          \
    ) {                                                                                           \
        image_batch(                                                                              \
            samples, images, height, width, channels, table, scale, shift, scratch, most_bytes,   \
            out_len, y, labels                                                                    \
        );                                                                                        \
    }

FOR_EACH_TYPE(KERNELS)
