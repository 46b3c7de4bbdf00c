"""Every trainable parameter of every causal LM gets exactly one optimizer, and the model learns with it."""

import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Trainer, TrainingArguments

from modeling_nanochat import NanochatGPTConfig
from recipes.training import optimizers
from recipes.training.muon import MUON_2025, MUON_2026, Muon, MuonSteps
from recipes.training.optimizers import ADAMW_2026, OptimizerSettings, build_optimizer, register_optimizer
from recipes.utils.errors import InputError
from recipes.utils.model_facts import ROLES, split_parameters

SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIGS = {
    "nanochat": NanochatGPTConfig(**SIZES, max_position_embeddings=16),
    "nanochat_2026": NanochatGPTConfig(
        **SIZES,
        max_position_embeddings=16,
        num_key_value_heads=1,
        value_embeddings=True,
        residual_scalars=True,
        smear=True,
        backout=True,
        initial_head_std=0.001,
    ),
    "gpt2": GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0),
    "llama": LlamaConfig(**SIZES, intermediate_size=48, num_key_value_heads=1, max_position_embeddings=16),
    "llama_tied": LlamaConfig(**SIZES, intermediate_size=48, tie_word_embeddings=True),
}


def make_model(name, seed=0):
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(CONFIGS[name])


def names_by_role(model):
    """Without the roles that only models of 2026 have, where they are empty."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    roles = {role: {names[p] for p in params} for role, params in split_parameters(model).items()}
    return {role: found for role, found in roles.items() if found or role in ROLES}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_trainable_parameter_has_exactly_one_role(name):
    model = make_model(name)
    frozen = next(p for p in model.parameters() if p.ndim == 2)
    frozen.requires_grad_(False)
    listed = [id(p) for params in split_parameters(model).values() for p in params]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in model.parameters() if p is not frozen}


def test_roles_of_nanochat():
    roles = names_by_role(make_model("nanochat"))
    layer = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.fc1", "mlp.fc2"]
    assert roles == {
        "matrices": {f"model.layers.{i}.{module}.weight" for i in range(2) for module in layer},
        "transposed_matrices": set(),
        "embedding": {"model.embed_tokens.weight"},
        "head": {"lm_head.weight"},
        "others": set(),
    }


def test_roles_of_nanochat_of_2026():
    roles, of_2025 = names_by_role(make_model("nanochat_2026")), names_by_role(make_model("nanochat"))
    assert roles == of_2025 | {
        "matrices": of_2025["matrices"] | {"model.layers.1.self_attn.ve_gate.weight"},
        "value_embeddings": {"model.value_embeds.1.weight"},
        "resid_lambdas": {"model.resid_lambdas"},
        "x0_lambdas": {"model.x0_lambdas"},
        "smear_and_backout": {"model.smear_gate.weight", "model.smear_lambda", "model.backout_lambda"},
    }


def test_roles_of_gpt2_whose_matrices_are_transposed_and_whose_head_is_tied():
    roles = names_by_role(make_model("gpt2"))
    layer = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert roles["transposed_matrices"] == {f"transformer.h.{i}.{name}.weight" for i in range(2) for name in layer}
    assert roles["embedding"] == {"transformer.wte.weight", "transformer.wpe.weight"}
    assert roles["matrices"] == roles["head"] == set()
    assert all(name.endswith(".bias") or ".ln_" in name for name in roles["others"])


def test_roles_of_llama():
    roles = names_by_role(make_model("llama"))
    assert len(roles["matrices"]) == 2 * 7
    assert roles["head"] == {"lm_head.weight"}
    assert all("norm" in name for name in roles["others"])
    assert names_by_role(make_model("llama_tied"))["head"] == set()


def learn(model, optimizer, steps=12):
    """Losses while learning one batch by heart."""
    ids = torch.randint(50, (4, 16), generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(steps):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("optimizer_name", ["muon", "adamw"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_learns_with_every_optimizer(name, optimizer_name):
    model = make_model(name)
    steps = MUON_2026 if name == "nanochat_2026" else MUON_2025
    optimizer = build_optimizer(
        optimizer_name,
        model,
        OptimizerSettings(0.02, 0.01, 0.004, value_lr=0.005, x0_lr=0.02, resid_lr=0.0002, muon=steps),
    )
    covered = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(covered) == sorted(id(p) for p in model.parameters())
    losses = learn(model, optimizer)
    assert losses[-1] < 0.8 * losses[0]


def rates(optimizer, model):
    """Learning rate and weight decay of each parameter by name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


def test_each_role_gets_its_own_learning_rate():
    model = make_model("nanochat")
    chosen = OptimizerSettings(matrix_lr=0.1, embedding_lr=0.2, unembedding_lr=0.3, weight_decay=0.4)
    muon, adamw = (rates(build_optimizer(name, model, chosen), model) for name in ("muon", "adamw"))
    assert muon["model.layers.0.mlp.fc1.weight"] == (0.1, 0.4)
    assert adamw["model.layers.0.mlp.fc1.weight"] == (0.3, 0.4)
    for optimizer in (muon, adamw):
        assert optimizer["model.embed_tokens.weight"] == (0.2, 0.0)
        assert optimizer["lm_head.weight"] == (0.3, 0.0)


def test_each_group_of_2026_has_its_own_rate_betas_and_decay():
    model = make_model("nanochat_2026")
    features = {"value_lr": 0.7, "x0_lr": 0.5, "resid_lr": 0.8, "smear_lr": 0.6}
    chosen = OptimizerSettings(0.1, 0.2, 0.3, weight_decay=0.4, **features, muon=MUON_2026, adamw=ADAMW_2026)
    optimizer = build_optimizer("muon", model, chosen)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = {names[p]: group for group in optimizer.param_groups for p in group["params"]}
    of_adamw = {name: (g["lr"], g["betas"], g["weight_decay"]) for name, g in groups.items() if g["kind"] == "adamw"}
    assert of_adamw == {
        "lm_head.weight": (0.3, (0.8, 0.96), 0.01),
        "model.embed_tokens.weight": (0.2, (0.8, 0.995), 0.001),
        "model.value_embeds.1.weight": (0.7, (0.8, 0.995), 0.01),
        "model.resid_lambdas": (0.8, (0.8, 0.95), 0.05),
        "model.x0_lambdas": (0.5, (0.96, 0.95), 0.0),
        "model.smear_gate.weight": (0.6, (0.8, 0.95), 0.0),
        "model.smear_lambda": (0.6, (0.8, 0.95), 0.0),
        "model.backout_lambda": (0.6, (0.8, 0.95), 0.0),
    }
    (muon,) = {id(group): group for name, group in groups.items() if name not in of_adamw}.values()
    assert (muon["lr"], muon["weight_decay"], MuonSteps.of(muon)) == (0.1, 0.4, MUON_2026)


def test_a_group_of_2025_is_what_it_was():
    model = make_model("nanochat")
    defaults = Muon([{"kind": "muon", "params": [torch.nn.Parameter(torch.zeros(2, 2))]}]).defaults
    for group in build_optimizer("muon", model, OptimizerSettings()).param_groups:
        assert (group["betas"], group["weight_decay"], MuonSteps.of(group)) == ((0.8, 0.95), 0.0, MUON_2025)
        assert group.keys() - defaults.keys() == {"kind", "params", "fused"}


def test_a_registered_optimizer_is_built_by_name(monkeypatch):
    monkeypatch.setattr(optimizers, "_BUILDERS", dict(optimizers._BUILDERS))

    @register_optimizer("plain_sgd")
    def build(model, chosen):
        return torch.optim.SGD(model.parameters(), lr=chosen.matrix_lr)

    optimizer = build_optimizer("plain_sgd", make_model("gpt2"), OptimizerSettings(matrix_lr=0.7))
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["lr"] == 0.7


def test_an_unknown_optimizer_names_those_there_are():
    with pytest.raises(InputError, match=r"unknown optimizer 'adam': registered are adamw, muon; "):
        build_optimizer("adam", make_model("gpt2"), OptimizerSettings())


USERS_MODULE = """
import torch

def build(model, settings):
    return torch.optim.SGD(model.parameters(), lr=settings.matrix_lr)

def build_nothing(model, settings):
    return {"lr": settings.matrix_lr}

number = 3
"""


@pytest.fixture
def users_directory(tmp_path, monkeypatch):
    """The current directory, from which nothing is imported unless asked for."""
    (tmp_path / "users_package").mkdir()
    (tmp_path / "users_package" / "users_module.py").write_text(USERS_MODULE)
    (tmp_path / "users_broken.py").write_text("import a_missing_module\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("users_")]:
        del sys.modules[name]


def test_a_users_optimizer_is_imported_by_name(users_directory):
    name = "users_package.users_module:build"
    optimizer = build_optimizer(name, make_model("gpt2"), OptimizerSettings(matrix_lr=0.7))
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["lr"] == 0.7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("users_absent:build", "no module users_absent in {} or among the installed packages."),
        ("users_package.absent:build", "no module users_package.absent in {} or among the installed packages."),
        ("users_broken:build", "users_broken needs a_missing_module, which is not installed."),
        ("users_package.users_module:built", "module users_package.users_module has no built."),
        ("users_package.users_module:number", "number is not a function but of type int."),
        ("users_package.users_module:build_nothing", "build_nothing returned a dict, not a torch.optim.Optimizer."),
    ],
)
def test_what_is_no_optimizer_is_one_line(users_directory, name, message):
    with pytest.raises(InputError) as error:
        build_optimizer(name, make_model("gpt2"), OptimizerSettings())
    assert str(error.value) == f"optimizer {name}: {message.format(users_directory)}"


@pytest.mark.parametrize("name", [":build", "users_package:", "a/b.py:build", "a:b:c", "https://x:build"])
def test_a_name_with_a_colon_is_a_module_and_a_function(name):
    with pytest.raises(InputError, match="is not MODULE:FUNCTION, as in my_package.my_module:build"):
        build_optimizer(name, make_model("gpt2"), OptimizerSettings())


# Outside our loop


def train_by_trainer(output_dir, resume=None):
    """Six steps of transformers' own Trainer with Muon on GPT-2; the checkpoint of step 3 is kept."""
    model = make_model("gpt2")
    optimizer = build_optimizer("muon", model, OptimizerSettings(0.02, 0.01, 0.004))
    ids = torch.randint(50, (24, 16), generator=torch.Generator().manual_seed(2)) // 10
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(output_dir),
            max_steps=6,
            per_device_train_batch_size=4,
            save_steps=3,
            logging_steps=1,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in ids],
        optimizers=(optimizer, None),
    )
    trainer.train(resume_from_checkpoint=resume)
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    return trainer.model, losses, optimizer


@pytest.mark.slow
def test_muon_trains_and_resumes_inside_transformers_trainer(tmp_path, fresh_accelerate):
    whole, losses, optimizer = train_by_trainer(tmp_path / "whole")
    assert isinstance(optimizer, Muon)
    assert losses[-1] < 0.9 * losses[0]
    resumed, _, _ = train_by_trainer(tmp_path / "resumed", resume=str(tmp_path / "whole" / "checkpoint-3"))
    for p, q in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(p, q)
