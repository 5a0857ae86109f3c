#!/bin/sh
# Goal: the tool `damacy` says what is there, streams it, and tells by exit status and stderr when it cannot.
# Method: a hierarchy written here by hand; what the tool prints is looked through for what must be in it.
# Usage: check_cli.sh PATH_OF_DAMACY
set -u
tool=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    sed 's/^/  out: /' "$folder/out"
    sed 's/^/  err: /' "$folder/err"
    failed=1
}
# expect STATUS ARGUMENTS...: run, and keep what it printed.
expect() {
    status=$1
    shift
    "$tool" "$@" >"$folder/out" 2>"$folder/err"
    found=$?
    [ "$found" = "$status" ] || fail "damacy $*: exit status $found, expected $status"
}
out() { grep -qF -- "$1" "$folder/out" || fail "stdout lacks: $1"; }
err() { grep -qF -- "$1" "$folder/err" || fail "stderr lacks: $1"; }

mkdir -p "$folder/top/image/0" "$folder/top/old"
echo '{"zarr_format":3,"node_type":"group"}' >"$folder/top/zarr.json"
cat >"$folder/top/image/zarr.json" <<'J'
{"zarr_format":3,"node_type":"group","attributes":{"ome":{"version":"0.5","multiscales":[{"axes":[
{"name":"y","type":"space","unit":"micrometer"},{"name":"x","type":"space","unit":"micrometer"}],
"datasets":[{"path":"0","coordinateTransformations":[{"type":"scale","scale":[0.5,0.25]}]}]}]}}}
J
cat >"$folder/top/image/0/zarr.json" <<'J'
{"zarr_format":3,"node_type":"array","shape":[64,64],"data_type":"uint16","chunk_grid":{"name":"regular",
"configuration":{"chunk_shape":[16,16]}},"chunk_key_encoding":{"name":"default"},"fill_value":3,
"codecs":[{"name":"bytes","configuration":{"endian":"little"}}],"attributes":{"who":"me"}}
J
cat >"$folder/top/old/.zarray" <<'J'
{"zarr_format":2,"shape":[10],"chunks":[5],"dtype":"<f4","compressor":null,"fill_value":"NaN","order":"C","filters":null}
J

mkdir "$folder/empty"
echo '{"zarr_format":2,"shape":[0,4],"chunks":[1,4],"dtype":"<f4","compressor":null,"fill_value":0,"order":"C","filters":null}' \
    >"$folder/empty/.zarray"

expect 0 --version
out "damacy "
expect 0 --help
out "damacy stream URI"
expect 0 info --help
out "damacy info URI"
expect 0 stream a --shape 8,8 -h
out "damacy stream URI"
expect 1 info -- --help
err "NOTFOUND: --help: "
expect 2
expect 2 dance
err "no command 'dance'"
expect 2 info
expect 2 info a b
expect 2 info --wrong a
expect 2 info a --timeout
expect 2 info a --timeout soon
expect 1 info "$folder/nothing"
err "NOTFOUND: $folder/nothing: "
[ ! -s "$folder/out" ] || fail "an error printed something to stdout"

expect 0 info "$folder/top"
out "group"
out "64 x 64"
out "image/0"
expect 0 info "$folder/top/image"
out "OME-Zarr 0.5"
out "scale 0.5, 0.25"
out "y (space, micrometer)"
expect 0 info "$folder/top/image/0"
out '"who":"me"'
out "read as u16"
expect 0 info --json "$folder/top"
if command -v python3 >/dev/null; then
    python3 - "$folder/out" <<'P' || fail "the JSON is not as expected"
import json, sys
node = json.load(open(sys.argv[1]))
assert node["kind"] == "group" and node["array_count"] == 2, node
image, old = node["children"]
assert image["kind"] == "image" and image["levels"] == ["image/0"] and image["children"][0]["scale"] == [0.5, 0.25]
assert old["zarr_format"] == 2 and old["fill_value"] == "\"NaN\"" or old["fill_value"] == "NaN"
P
fi
expect 0 info --shallow --json "$folder/top"

expect 2 stream
expect 2 stream a --shape 1,x
expect 2 stream a --batch 0
expect 2 stream a --dtype u128
expect 2 stream a --device tpu
expect 0 stream "$folder/top/image" --shape 8,8 --batch 4 --batches 5 --dtype f32 --workers 1 --seed 7
out "samples     20 of 8 x 8, from 1 array"
out "samples/s"
expect 0 stream "$folder/top/image" "$folder/top/image/0" --shape=8,8 --batch=4 --batches=5 --json --quiet
out '"samples":20'
out '"arrays":2'
expect 0 stream "$folder/top" --shape 8,8 --batch 2 --batches 2
out "from 1 array (1 holds none)"
expect 0 stream "$folder/top/image" --shape 8,8 --batches 1 --dtype float32
expect 1 stream "$folder/top/image" --shape 80,80
err "no array there holds a sample of 80 x 80: $folder/top/image/0 is 64 x 64"
expect 1 stream "$folder/empty"
err "there is nothing in $folder/empty: its shape is 0 x 4"
expect 1 stream "$folder/nothing"
err "NOTFOUND"
expect 1 stream "$folder/top/image" --memory 1000
err "BUDGET"

# Nobody reads: no complaint, also where SIGPIPE is ignored, as under Python.
(
    trap '' PIPE
    sleep 0.2 # so that nobody is left when it writes
    "$tool" info "$folder/top" 2>"$folder/err"
) | true
[ ! -s "$folder/err" ] || fail "a closed pipe is complained of"
if [ -w /dev/full ]; then
    "$tool" info "$folder/top" >/dev/full 2>"$folder/err"
    [ $? = 1 ] || fail "a full disk is no failure"
    err "cannot write"
fi

# A signal ends it in order, with the result so far.
"$tool" stream "$folder/top/image" --shape 8,8 --batches 1000000000 >"$folder/out" 2>"$folder/err" &
pid=$!
# Not before there is a pipeline, with threads of its own: until it catches it, the signal is ignored in a shell's background jobs.
while grep -qs '^State:.[^Z]' "/proc/$pid/status" && ! grep -qs '^damacy-cpu' "/proc/$pid/task/"*/comm; do
    sleep 0.05
done
sleep 0.2
kill -INT $pid
wait $pid
[ $? = 130 ] || fail "after SIGINT the exit status is not 130"
out "samples/s"

[ "$failed" = 0 ] && echo "all as expected"
exit "$failed"
