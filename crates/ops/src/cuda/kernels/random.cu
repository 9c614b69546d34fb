// Random numbers of the stream cipher ChaCha with 8 rounds (D. J. Bernstein, "ChaCha, a variant of Salsa20", 2008), with a
// 64-bit counter and a 64-bit stream, as in the crate `rand_chacha`. A word depends only on the key, the stream and its
// position, so every thread computes its own, and the device draws what the host would have drawn.
//
// Any one-dimensional launch along x will do. Threads step over the blocks of words until none are left.

#include "packs.cuh"

// The words of a block of the cipher.
constexpr unsigned WORDS = 16;

struct Stream {
    unsigned key[8];
    unsigned number[2];
    // The number of the stream in device memory, if a captured launch has a new one each time.
    const unsigned* number_on_device;
    // Of the first word that is drawn.
    unsigned long long position;
};

__device__ inline unsigned rotated(unsigned x, int bits) { return x << bits | x >> (32 - bits); }

__device__ inline void quarter_round(unsigned& a, unsigned& b, unsigned& c, unsigned& d) {
    a += b, d = rotated(d ^ a, 16);
    c += d, b = rotated(b ^ c, 12);
    a += b, d = rotated(d ^ a, 8);
    c += d, b = rotated(b ^ c, 7);
}

// The words of block `counter`.
__device__ inline void cipher(const Stream& stream, unsigned long long counter, unsigned* words) {
    const unsigned* number =
        stream.number_on_device != nullptr ? stream.number_on_device : stream.number;
    const unsigned* key = stream.key;
    const unsigned start[WORDS] = {
        0x61707865,        0x3320646e,              0x79622d32, 0x6b206574, key[0], key[1],
        key[2],            key[3],                  key[4],     key[5],     key[6], key[7],
        unsigned(counter), unsigned(counter >> 32), number[0],  number[1],
    };
#pragma unroll
    for (int i = 0; i < WORDS; i++) words[i] = start[i];
#pragma unroll
    for (int round = 0; round < 8; round += 2) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            quarter_round(words[i], words[i + 4], words[i + 8], words[i + 12]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            quarter_round(
                words[i], words[4 + (i + 1) % 4], words[8 + (i + 2) % 4], words[12 + (i + 3) % 4]
            );
        }
    }
#pragma unroll
    for (int i = 0; i < WORDS; i++) words[i] += start[i];
}

// The word at one position.
__device__ inline unsigned word_at(const Stream& stream, unsigned long long position) {
    unsigned words[WORDS];
    cipher(stream, position / WORDS, words);
    return words[position % WORDS];
}

// 1 for each element whose word is at least `threshold`, otherwise 0.
extern "C" __global__ void __launch_bounds__(1024) cv_kept_f32(
    size_t n, Stream stream, unsigned long long threshold, unsigned char* __restrict__ kept
) {
    const unsigned long long first = stream.position / WORDS;
    const unsigned skipped = stream.position % WORDS;
    const size_t blocks = (skipped + n + WORDS - 1) / WORDS;
    for (size_t block = thread_index(); block < blocks; block += thread_count()) {
        unsigned words[WORDS];
        cipher(stream, first + block, words);
#pragma unroll
        for (unsigned k = 0; k < WORDS; k++) {
            // Words before the first one wrap around to a large index.
            const size_t i = block * WORDS + k - skipped;
            if (i < n) kept[i] = words[k] >= threshold;
        }
    }
}

// `factor` for each row whose 53 random bits are below `threshold`, otherwise 0. A row takes two words, the lower one
// first, and uses their upper bits.
extern "C" __global__ void __launch_bounds__(1024) cv_row_factors_f32(
    size_t n, Stream stream, unsigned long long threshold, float factor,
    float* __restrict__ factors
) {
    for (size_t i = thread_index(); i < n; i += thread_count()) {
        const unsigned long long low = word_at(stream, stream.position + 2 * i);
        const unsigned long long high = word_at(stream, stream.position + 2 * i + 1);
        factors[i] = (high << 32 | low) >> 11 < threshold ? factor : 0.0f;
    }
}
