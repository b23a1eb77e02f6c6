"""A finished run's network as a folder that timm loads and the Hugging Face hub takes."""

import json
from pathlib import Path

import safetensors.torch
import timm
from timm.models import save_for_hf

from ns_bench.errors import UserError
from ns_bench.execute.trained import Trained
from ns_bench.files import publish, publish_json

CARD = """---
library_name: timm
pipeline_tag: image-classification
tags: [timm, image-classification, ns_bench]
---

# {id}

`{name}`, trained by ns_bench: {top1:.2f} % top-1 on the test images of its data. It takes images of
{input_size} normalised by the mean {mean} and the standard deviation {std}.

```python
import timm, torch
from PIL import Image
net = timm.create_model("local-dir:PATH", pretrained=True).eval()  # or hf-hub:OWNER/NAME
see = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
print(net(see(Image.open("image.png").convert("{mode}"))[None]).softmax(1))
```
"""


def write(trained: Trained, folder: Path) -> None:
    """Write what `timm.create_model("local-dir:FOLDER", pretrained=True)` loads: config.json,
    model.safetensors and a model card. The weights hold mean, std, classes and input size, too.

    Raises:
        UserError: timm does not know the network, or the folder is not empty.
    """
    name, given = trained.recipe.model, trained.input
    if not timm.is_model(name):
        raise UserError(f"{name} is no network of timm's: ns_bench.load gives it as it is")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: expected a new folder, or an empty one")
    save_for_hf(
        trained.network,
        str(folder),
        model_config={"label_names": trained.classes},
        data_config=given,
        safe_serialization=True,
    )
    config = json.loads((folder / "config.json").read_bytes())
    if "drop_path_rate" in config.get("model_args", {}):
        config["model_args"]["drop_path_rate"] = 0.0  # a rate a row is drawn outside
    publish_json(folder / "config.json", config)
    metadata = {"format": "pt", "classes": json.dumps(trained.classes)}
    metadata |= {name: json.dumps(value) for name, value in given.items()}
    weights = {name: value.contiguous() for name, value in trained.network.state_dict().items()}
    publish(folder / "model.safetensors", safetensors.torch.save(weights, metadata))
    mode = "L" if given["input_size"][0] == 1 else "RGB"
    about = {"id": trained.recipe.id, "name": name, "top1": trained.test["top1"], "mode": mode}
    card = CARD.format(**about, **given)
    publish(folder / "README.md", card.encode())
