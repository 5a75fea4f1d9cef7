"""Entry point: `python -m services.vae.frames train ...`."""

from common.rpc.entry import main
from services.vae.frames.train import main as train

if __name__ == "__main__":
    main("vae.frames", train=train)
