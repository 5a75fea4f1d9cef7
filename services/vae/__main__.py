"""Entry point: `python -m services.vae serve|train ...`."""

from common.rpc.entry import main
from services.vae.server import serve
from services.vae.train import main as train

if __name__ == "__main__":
    main("vae", serve=serve, train=train)
