"""Entry point: `python -m services.vae.bc train ...`."""

from common.rpc.entry import main
from services.vae.bc.train import main as train

if __name__ == "__main__":
    main("vae.bc", train=train)
