#!/bin/bash
# Process 1 of the guest: an NFS server and two clients that share nothing, then the tests in guest.py.
# The root is the host's, read-only; what is written goes to file systems in memory. The second client lives in a
# network namespace with a host name of its own: NFSv4 knows a client by its name, and two mounts of one name would be
# one client. HB_PYTHON and HB_ROOT come from the kernel's command line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
for each in /run /mnt /var/lib; do mount -t tmpfs tmpfs "$each"; done
mkdir -p /run/{tmp,etc,home,netns,modules/lib/modules} /mnt/{exported,site,v3-A,v3-B,v4-A,v4-B} /var/lib/nfs/{sm,sm.bak,v4recovery,rpc_pipefs}
export HOME=/run/home TMPDIR=/run/tmp
cp -a /etc/. /run/etc/ 2>/dev/null
mount --bind /run/etc /etc
: >/etc/exports
touch /var/lib/nfs/{etab,rmtab,state}
grep -q ^_rpc: /etc/passwd || echo "_rpc:x:64999:65534::/run/rpcbind:/usr/sbin/nologin" >>/etc/passwd
mount -t tmpfs -o size=128m tmpfs /mnt/exported
ln -s "/usr/lib/uml/modules/$(uname -r)" "/run/modules/lib/modules/$(uname -r)"
for each in nfsd nfsv3 nfsv4 veth; do modprobe -d /run/modules "$each"; done
mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs rpc_pipefs /var/lib/nfs/rpc_pipefs

hostname client-a
ip link set lo up
ip netns add b
ip link add to-b type veth peer name to-a
ip link set to-a netns b
ip address add 10.99.0.1/24 dev to-b
ip link set to-b up
on_b() { nsenter --net=/run/netns/b unshare --uts sh -c "hostname client-b; $1"; }
on_b 'ip link set lo up; ip address add 10.99.0.2/24 dev to-a; ip link set to-a up'

rpcbind -w
exportfs -o rw,no_root_squash,fsid=0,insecure '*:/mnt/exported'
rpc.mountd -p 20048
rpc.nfsd -V 3 -V 4 -G 10 -L 10 4
sleep 11 # the grace time in which an NFSv4 server takes no new opens
mount -i -t nfs4 -o vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1,nosharecache 127.0.0.1:/ /mnt/v4-A
on_b 'mount -i -t nfs4 -o vers=4.2,addr=10.99.0.1,clientaddr=10.99.0.2,nosharecache 10.99.0.1:/ /mnt/v4-B'
three=vers=3,nolock,nosharecache,proto=tcp,mountproto=tcp,mountport=20048
mount -i -t nfs -o "$three,addr=127.0.0.1" 127.0.0.1:/mnt/exported /mnt/v3-A
mount -i -t nfs -o "$three,addr=10.99.0.1" 10.99.0.1:/mnt/exported /mnt/v3-B

cd "$HB_ROOT" && "$HB_PYTHON" -m pytest -p no:cacheprovider -q --color=no tests/nfs/guest.py
echo "exit code of the guest's tests: $?"
halt -f
