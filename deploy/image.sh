#!/bin/sh
# Puts into a folder what a container of the server has: the program, the libraries that it needs, the certificates of authorities, a user.
#   image.sh PROGRAM FOLDER
set -eu
program=$1
folder=$2
mkdir -p "$folder/usr/bin" "$folder/etc/ssl/certs" "$folder/etc/fanfare" "$folder/data"
cp "$program" "$folder/usr/bin/fanfare"
ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$folder$(dirname "$library")"
    cp --dereference "$library" "$folder$library"
done
cp --dereference /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/"
echo 'fanfare:x:65532:65532::/data:/sbin/nologin' >"$folder/etc/passwd"
echo 'fanfare:x:65532:' >"$folder/etc/group"
chown 65532:65532 "$folder/data"
