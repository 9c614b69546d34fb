#include "tests.h"

int main() {
    test_halves();
    test_device();
    test_streams();
    test_graphs();
    test_products();
    test_collectives();
    test_convolutions();
}
