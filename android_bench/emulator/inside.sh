# Run by process.py as root of private user, mount, pid and host name namespaces; becomes the device's adbd.
#   R the device's root file system    Q the emulator of its CPU    CPU what that emulator shows
#   M storage in MiB                   P lines of Android properties    A the path of adbd inside R
#
# The table of binfmt_misc is private too: arm64 programs run inside, and the host's table stays as it is. F opens the
# emulator now, while its path can still be seen. The root file system ends read-only: all devices share it.
set -e
mount --bind "$R" "$R"
cd "$R"
mount -t proc proc proc
mount -t binfmt_misc none proc/sys/fs/binfmt_misc
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":arm64:M::$magic:$mask:$Q:F" > proc/sys/fs/binfmt_misc/register
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs -o size=1m tmpfs run
mount -t tmpfs -o size=16m tmpfs tmp
mount -t tmpfs -o size="${M}m" tmpfs data/local/tmp
printf '%s\n' "$P" > run/build.prop
mount -o remount,bind,ro "$R"
hostname tfq-emulator
exec chroot "$R" /usr/bin/env -i PATH=/usr/bin:/bin:/system/bin HOME=/tmp QEMU_CPU="$CPU" \
  ADBD_PROPS=/run/build.prop LD_PRELOAD=/usr/lib/tfq-shim.so "$A"
