#!/bin/bash
# The third training on two GPUs, in the three parts that were run (README.md, "Third run"):
#   go_on.sh dense MODEL WORK 530     judge, classifier, real pans; two dense students (a weaker and a stronger classifier)
#   go_on.sh lora  MODEL WORK 560     the best of the two and MODEL goes on; Sparse Forcing's addition on top of it
#   go_on.sh rest  MODEL WORK 495     on a fresh machine, MODEL the new one with lora/sparse-forcing: Light Forcing's addition, the decoder of
#                                     the Wan architecture, the tables and landmarks of docs/model-quality.md
# The last number: seconds. A script that needs another's result compiles first and waits for it.
cd "$(dirname "$0")"
part=$1 M=$2 W=$3; T=$(date +%s); END=$((T + $4))
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=4
mkdir -p $W
first() { CUDA_VISIBLE_DEVICES=0 python3 "$@"; }
second() { CUDA_VISIBLE_DEVICES=1 python3 "$@"; }
python3 restore_teacher.py $M $W/teacher > $W/restore.log 2>&1 && touch $W/teacher/done
case $part in
dense)
  first train_dmd.py $W/a 60 --init $M --teacher $W/teacher --cues $W/guide --warm 40 --deadline $((END - 20)) > $W/a.log 2>&1 &
  second judge.py $W/judge 60 --deadline $((T + 140)) > $W/judge.log 2>&1 &
  judge=$!
  second train_guide.py $W/guide 60 --vae $M --deadline $((T + 150)) > $W/guide.log 2>&1
  wait $judge
  second pans.py $W/pans.pt --vae $M > $W/pans.log 2>&1 &
  second train_dmd.py $W/b 60 --init $M --teacher $W/teacher --cues $W/guide --cue 1 --long .6 --warm 40 --deadline $((END - 20)) > $W/b.log 2>&1 &
  wait
  ;;
lora)
  first train_dmd.py $W/lora 60 --init $W/best --teacher $W/teacher --critic $W/best --cues $W/guide --lora 16 --lr 3e-4 --wait --deadline $((END - 15)) \
    --recipe sparse-forcing --pans $W/pans.pt --long .6 > $W/sparse.log 2>&1 &
  first evaluate.py $W/eval-a --model $W/a --judge $W/judge/judge.pt --run held:sink:60 > $W/eval-a.log 2>&1 &
  second evaluate.py $W/eval-b --model $W/b --judge $W/judge/judge.pt --run held:sink:60 > $W/eval-b.log 2>&1
  second evaluate.py $W/eval-m --model $M --judge $W/judge/judge.pt --run held:sink:60 > $W/eval-m.log 2>&1
  while [ ! -f $W/eval-a/evaluation.json ]; do sleep .5; done
  best=$(python3 - $W <<'PY'
import json, sys
def points(x):
    r = json.load(open(f"{sys.argv[1]}/eval-{x}/evaluation.json"))
    a, b = r["held:sink:60, first 5 s"], r["held:sink:60, last 5 s"]
    want = {"colour": 95, "shape": 90, "scene": 95, "motion": 85, "camera": 90}
    return sum(min(a[h][0], w + 3) + min(b[h][0], w) for h, w in want.items())
print(max("abm", key=points), {x: points(x) for x in "abm"})
PY
)
  echo "best: $best" | tee $W/best.log
  mkdir -p $W/best
  if [ ${best%% *} = m ]; then cp -r $M/. $W/best/; cp $W/a/critic.part* $W/best/; cp -r $M $W/model
  else
    cp $W/${best%% *}/c*.part* $W/best/
    python3 - $M $W <<'PY'
import json, sys
c = json.load(open(sys.argv[1] + "/tiny_vae/config.json"))
json.dump({"mean": c["measured_latent_mean"], "std": c["measured_latent_std"]}, open(sys.argv[2] + "/stats.json", "w"))
PY
    python3 export.py $W/best $W/model --stats $W/stats.json --distilled --stage "B: Self-Forcing distillation over 21 judged frames"
  fi
  touch $W/best/done
  wait
  mkdir -p $W/model/lora; cp $W/lora/*.safetensors $W/model/lora/
  ;;
rest)
  e="--model $M --judge state/judge.pt --lora $M/lora --teacher $W/teacher --deadline $((END - 55))"
  (first evaluate.py $W/eval0 $e --run held:sparse+lora:60 --run held:short:60 --run held:sparse:60 > $W/eval0.log 2>&1
   first landmarks.py $W/landmarks.json --model $M --lora $M/lora --prompts 50 --memory sparse+lora --memory short --memory sparse --memory sink > $W/landmarks.log 2>&1
   first evaluate.py $W/eval2 $e --run held:teacher:5 --run seen:sink:5 --run held:light:60 > $W/eval2.log 2>&1) &
  first train_wanvae.py $W/wanvae 60 --vae $M --deadline $((END - 35)) > $W/wanvae.log 2>&1 &
  second train_guide.py $W/guide 45 --vae $M > $W/guide.log 2>&1 &
  second train_dmd.py $W/light 60 --init $M --teacher $W/teacher --cues $W/guide --lora 16 --lr 3e-4 --batch 24 --streams 2 --recipe light-forcing --long .7 \
    --deadline $((END - 130)) > $W/light.log 2>&1
  cp $W/light/*.safetensors $M/lora/
  second evaluate.py $W/eval1 $e --run held:light+lora:60 > $W/eval1.log 2>&1
  wait
  ;;
esac
