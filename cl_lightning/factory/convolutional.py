"""Methods on a convolutional backbone, from the configuration to objects: fine-tuning, joint, iCaRL, WA and DER."""

from __future__ import annotations

from cl_lightning.config.schema import Config, DERConfig, WAConfig
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import View
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.networks import backbone_structure, embedding_network, named_network
from cl_lightning.factory.phases import MAIN, build_phase
from cl_lightning.methods import der, icarl, wa
from cl_lightning.methods.base import Method
from cl_lightning.methods.finetune import Finetune

_WHOLE_EMBEDDING_NETWORK = ("backbone", "classifier")


def build_finetune(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return fine-tuning on new images and exemplars."""
    main = build_phase(MAIN, config.method.main, config, View.MERGED, _WHOLE_EMBEDDING_NETWORK)
    return Finetune(embedding_network(config, scenario, key), main, rehearsal=config.memory.budget != "none")


def build_joint(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return training on all images of all tasks so far: an upper bound, not continual learning."""
    main = build_phase(MAIN, config.method.main, config, View.CUMULATIVE, _WHOLE_EMBEDDING_NETWORK)
    return Finetune(embedding_network(config, scenario, key), main, rehearsal=False)


def build_icarl(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return iCaRL. Raises ``UserError`` without a memory."""
    if config.memory.budget == "none":
        raise UserError("memory=none: method=icarl needs exemplars, type memory=total (or method=finetune)")
    main = build_phase(MAIN, config.method.main, config, View.MERGED, icarl.MAIN_PARTS)
    return icarl.ICaRL(embedding_network(config, scenario, key), main, rehearsal=config.memory.budget != "none")


def build_wa(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return WA; its classifier has no bias."""
    assert isinstance(config.method, WAConfig)
    main = build_phase(MAIN, config.method.main, config, View.MERGED, wa.MAIN_PARTS)
    options = wa.WAOptions(config.method.temperature, config.method.clip, rehearsal=config.memory.budget != "none")
    return wa.WA(embedding_network(config, scenario, key, bias=False), main, options)


def build_der(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return DER: an extractor a task, and a second phase for the classifier."""
    method = config.method
    assert isinstance(method, DERConfig)
    structure = {"kind": "extractor_network", "backbone": backbone_structure(config, scenario), "classes": []}
    main = build_phase(MAIN, method.main, config, View.MERGED, der.MAIN_PARTS)
    second = build_phase("classifier", method.classifier, config, View.BALANCED, der.SECOND_PARTS)
    options = der.DEROptions(method.auxiliary_weight, method.temperature, rehearsal=config.memory.budget != "none")
    return der.DER(named_network(structure, key), main, second, options)
