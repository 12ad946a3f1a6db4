#!/bin/sh
# What an s2i image starts; the same as the Procfile's line.
exec python -m common.host "$(dirname "$0")"
