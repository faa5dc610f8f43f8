# shellcheck shell=sh
# Sourced in the checkout (`. ./env.sh`), so that native `pulumi` and `ansible-playbook` find everything.
if [ -f ./infra/toolchain/__main__.py ]; then
    eval "$(python3 -m infra.toolchain env)"
else
    echo "env.sh: source it in the root of the checkout: . ./env.sh" >&2
fi
