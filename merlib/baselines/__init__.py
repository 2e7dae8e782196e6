"""Networks of other authors that papers compare themselves with, and floors: each network and its loss in one file."""

NETWORKS = {
    "multiemo": "merlib.baselines.multiemo:MultiEmo",
    "dialoguernn": "merlib.baselines.dialoguernn:DialogueRnn",
    "dialoguegcn": "merlib.baselines.dialoguegcn:DialogueGcn",
    "cogmen": "merlib.baselines.cogmen:Cogmen",
    "ef_lstm": "merlib.baselines.lstm:EfLstm",
    "lf_lstm": "merlib.baselines.lstm:LfLstm",
    "tfn": "merlib.baselines.tensor_fusion:Tfn",
    "lmf": "merlib.baselines.tensor_fusion:Lmf",
    "mfn": "merlib.baselines.mfn:Mfn",
    "mfm": "merlib.baselines.mfm:Mfm",
    "iccn": "merlib.baselines.iccn:Iccn",
    "concat_mlp": "merlib.baselines.floors:ConcatMlp",
    "pooled_mlp": "merlib.baselines.pooled_mlp:PooledMlp",
    "bigru": "merlib.baselines.floors:BiGru",
    "text_encoder": "merlib.baselines.encoders:TextEncoder",
    "speech_encoder": "merlib.baselines.encoders:SpeechEncoder",
}
ESTIMATORS = {
    "majority": "merlib.baselines.floors:majority",
    "logistic": "merlib.baselines.floors:logistic",
    "ridge": "merlib.baselines.floors:ridge",
}
LOSSES = {"mfm": "merlib.baselines.mfm:MfmLoss", "iccn": "merlib.baselines.iccn:IccnLoss"}
