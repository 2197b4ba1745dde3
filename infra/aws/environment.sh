# What every shell of a node needs before it starts Ray.
export PATH="$HOME/condgen/.venv/bin:$PATH"
export RAY_AUTH_MODE=token # the token is in ~/.ray/auth_token, where Ray looks by itself
export RAY_USAGE_STATS_ENABLED=0
ulimit -n 65536 2> /dev/null || true
