#!/bin/sh
# Lays out the files of the image: the program, the libraries that it is linked with, and the certificates of public authorities.
#   deploy/rootfs.sh PROGRAM FOLDER
# Nothing else is in the image: no shell, no package manager, no other program. glibc resolves names without further files.
set -eu
program=$1 root=$2
mkdir -p "$root/usr/local/bin" "$root/etc/tidegate" "$root/etc/ssl/certs"
# Without the lines of the source, which are most of the file; the functions' names stay, for backtraces.
strip --strip-debug -o "$root/usr/local/bin/tidegate" "$program"
chmod 0755 "$root/usr/local/bin/tidegate"
ldd "$program" | grep -o '/[^ )]*' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
printf 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'nonroot:x:65532:\n' >"$root/etc/group"
