"""Models: loading them, checking that two fit each other, and making a student from a teacher."""

from tutelage.models.load import ModelSize as ModelSize
from tutelage.models.load import describe_model as describe_model
from tutelage.models.load import load_config as load_config
from tutelage.models.load import load_model as load_model
from tutelage.models.load import load_tokenizer as load_tokenizer
from tutelage.models.prune import keep_layers as keep_layers
from tutelage.models.prune import layer_indices as layer_indices
from tutelage.models.same_tokenizer import check_same_tokenizer as check_same_tokenizer
