#!/usr/bin/env bash
# Runs the bench of candle-vision on a machine with a card, from a folder that `cargo xtask bench --pack` made. It needs no
# cargo and no Rust. Results go to the current folder: tests.txt, bench.txt (the table) and bench.json.
#
#   bash PACK/run.sh [--python PYTHON] [--no-tests] [arguments of `cargo xtask bench`]
#
# PYTHON has torch and torchvision, and pytorch-grad-cam for Grad-CAM. Without it, only this project is measured. CUDA's
# libraries come from LD_LIBRARY_PATH, from the wheels of PYTHON (or python3), or from a toolkit. Examples:
#
#   bash PACK/run.sh --python python3 --compile
#   bash PACK/run.sh --no-tests train --only b64_32_adam --runs 5
#   CANDLE_VISION_DATA=data bash PACK/run.sh --no-tests tutorial --python python3 --runs 1
set -euo pipefail

pack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=python3
tests=yes
arguments=()
device=(--device cuda)
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
        exec "$pack/bin/xtask" bench --help
        ;;
    --no-tests)
        tests=no
        shift
        ;;
    --python)
        [ $# -gt 1 ] || { echo "run.sh: --python needs a path" >&2; exit 2; }
        python=$2
        arguments+=("$1" "$2")
        shift 2
        ;;
    *)
        case $1 in --python=*) python=${1#*=} ;; --device | --device=* | --cpu | --cuda) device=() ;; esac
        arguments+=("$1")
        shift
        ;;
    esac
done

# What is already on LD_LIBRARY_PATH comes first.
libraries() {
    if [ -n "${LD_LIBRARY_PATH:-}" ]; then echo "$LD_LIBRARY_PATH"; fi
    local places
    places=$("$python" -c 'import nvidia; print(*nvidia.__path__, sep="\n")' 2>/dev/null || true)
    local place
    while IFS= read -r place; do
        if [ -n "$place" ]; then ls -d "$place"/*/lib 2>/dev/null || true; fi
    done <<<"$places"
    for place in "${CUDA_HOME:-/usr/local/cuda}"/lib64 /usr/local/cuda/lib64 /opt/cuda/lib64 \
        /usr/local/nvidia/lib64 /usr/lib/wsl/lib; do
        if [ -d "$place" ]; then echo "$place"; fi
    done
}
LD_LIBRARY_PATH=$(libraries | paste -sd: -)
export LD_LIBRARY_PATH

missing=$(ldd "$pack/bin/jobs" | sed -n 's/^[[:space:]]*\(.*\) => not found$/\1/p' | paste -sd' ' -)
if [ -n "$missing" ]; then
    echo "run.sh: the programs cannot start without $missing: libcuda.so.1 comes with NVIDIA's driver, the others with" \
        "the wheels of a Python with PyTorch for CUDA (--python) or with a CUDA toolkit (LD_LIBRARY_PATH)" >&2
    exit 1
fi

failed=no
if [ $tests = yes ]; then
    : >tests.txt
    for package in "$pack"/tests/*; do
        for program in "$package"/*; do
            if [ ! -f "$program" ]; then continue; fi
            name=$(basename "$package")/$(basename "$program")
            # The libraries of a device do not support several threads. Tests find their reference values by this variable.
            if CARGO_MANIFEST_DIR=$package "$program" --test-threads 1 >output.txt 2>&1; then
                result=passed
            else
                result=FAILED failed=yes
            fi
            echo "$name: $result: $(sed -n 's/^test result: [^.]*\. //p' output.txt)" | tee -a tests.txt
            if [ $result = FAILED ]; then cat output.txt >>tests.txt; fi
        done
    done
    rm -f output.txt
fi

"$pack/bin/xtask" bench --packed "$pack" ${device[@]+"${device[@]}"} --json bench.json \
    ${arguments[@]+"${arguments[@]}"} | tee bench.txt || failed=yes
[ $failed = no ]
