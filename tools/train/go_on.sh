#!/bin/bash
# The fourth training, on two GPUs of one machine, in the parts that were run (README.md, "Fourth run"). All times are seconds after the
# beginning of a part (`rest`: of `dense`); trainings go on from one part to the next.
#   go_on.sh guide MODEL WORK     a classifier that learns from ever new clips of both cards -> WORK/guide
#   go_on.sh dense MODEL WORK     with WORK/guide: two students, judged; the better one begins to learn its additions
#   go_on.sh rest  MODEL WORK     the additions end; the tables and landmarks of docs/model-quality.md
# GUIDE, DENSE, LORA, LAST: when the classifier, the students, the additions and the evaluations end.
cd "$(dirname "$0")"
part=$1 M=$2 W=$3
: ${GUIDE:=230} ${DENSE:=425} ${LORA:=740} ${LAST:=1040}
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=4
mkdir -p $W
PY=${PY:-python3}
bg() { card=$1 name=$2; shift 2; CUDA_VISIBLE_DEVICES=$card setsid $PY "$@" > $W/$name.log 2>&1 < /dev/null & echo $! > $W/$name.pid; }
on() { card=$1 name=$2; shift 2; CUDA_VISIBLE_DEVICES=$card $PY "$@" > $W/$name.log 2>&1; }
alive() { state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' /proc/$(cat $W/$1.pid 2> /dev/null || echo none)/status 2> /dev/null); [ -n "$state" ] && [ $state != Z ]; }
end() { for x in "$@"; do while alive $x; do sleep .3; done; done; }  # of trainings, with their memory
[ $part = rest ] || date +%s > $W/start
T=$(cat $W/start)
judge="--judge state/judge.pt $EVAL" s=${SECS:-60} look=${LOOK:-20}
prompts="--cue ${CUE:-2} --long .6 --away .4 --pulses .25 --crossed .15"
case $part in
guide)
  pool=${POOL:-/dev/shm/clips}; rm -rf $pool; mkdir -p $pool
  bg 1 clips1 clips.py $pool --vae $M --deadline $((T + GUIDE + 30))
  bg 0 clips0 clips.py $pool --vae $M --deadline $((T + GUIDE + 30))
  on 1 guide train_guide.py $W/guide 60 --clips $pool --deadline $((T + GUIDE))
  ;;
dense)
  $PY restore_teacher.py $M $W/teacher > $W/restore.log 2>&1
  how="--init $M --teacher $W/teacher --cues $W/guide --hold $((T + 120)) --ahead ${AHEAD:-40} $prompts --lr 1.4e-4 --clr 2e-4 --warm 20 --window 12 --sink 0 --deadline $((T + DENSE))"
  bg 0 a train_dmd.py $W/a 60 $how --mixed
  bg 1 b train_dmd.py $W/b 60 $how
  end a b
  [ -n "$KEEP" ] && $KEEP &
  mkdir -p $W/best
  lora="--init $W/best --teacher $W/teacher --cues $W/guide --critic $W/best $prompts --lora 16 --lr 3e-4 --wait --deadline $((T + LORA))"
  bg 0 sparse train_dmd.py $W/sparse 60 $lora --recipe sparse-forcing
  bg 1 light train_dmd.py $W/light 60 $lora --recipe light-forcing --batch ${LIGHT:-32} --streams 2
  for x in a b; do  # all the way, and ${SHARE:-.7} of it
    card=0; [ $x = b ] && card=1
    on $card eval-$x evaluate.py $W/eval-$x --model $W/$x $judge --run held:short:$look & look1="$look1 $!"
    (on $card blend-$x blend.py $M $W/$x $W/${x}7 ${SHARE:-.7}
     on $card eval-${x}7 evaluate.py $W/eval-${x}7 --model $W/${x}7 $judge --run held:short:$look) & look1="$look1 $!"
  done
  wait $look1
  best=${BEST:-$($PY - $W $look <<'EOF'
import json, sys
want = {"colour": 95, "shape": 90, "scene": 95, "motion": 90, "camera": 90}
def points(path, first, last):
    try:
        r = json.load(open(path))
        return round(sum(min(r[k][h][0], w + 3) for k in (first, last) for h, w in want.items()), 1)
    except (OSError, KeyError, ValueError):
        return 0
p = {x: points(f"{sys.argv[1]}/eval-{x}/evaluation.json", *(f"held:short:{sys.argv[2]}, {w} 5 s" for w in ("first", "last"))) for x in ("a", "b", "a7", "b7")}
p["m"] = points("state/results/memories.json", "held:short:60, first 5 s", "held:short:60, 15 to 20 s")
print(max(p, key=p.get), p)
EOF
)}
  echo "$best" | tee $W/best.log
  x=${best%% *}
  if [ $x = m ]; then cp -r $M/. $W/best/; cp $W/a/critic.part* $W/best/; else cp $W/$x/ckpt.part* $W/${x%7}/critic.part* $W/best/; fi
  touch $W/best/done $W/teacher/done
  $PY - $M $W <<'EOF'
import json, sys
c = json.load(open(sys.argv[1] + "/tiny_vae/config.json"))
json.dump({"mean": c["measured_latent_mean"], "std": c["measured_latent_std"]}, open(sys.argv[2] + "/stats.json", "w"))
EOF
  $PY export.py $W/best $W/model --stats $W/stats.json --distilled --stage "B: Self-Forcing distillation, fourth run" --window 12 --sink 0 > $W/export.log 2>&1
  ;;
rest)
  [ -n "$BESIDE" ] && $BESIDE & beside=$!  # something for the processors, if there is
  end sparse light
  mkdir -p $W/lora; cp $W/sparse/*.safetensors $W/light/*.safetensors $W/lora/
  e="--model $W/best $judge --lora $W/lora --teacher $W/teacher --deadline $((T + LAST - 70))"
  (on 0 eval0 evaluate.py $W/eval0 $e --run held:sparse+lora:$s --run held:sparse:$s
   on 0 landmarks landmarks.py $W/landmarks.json --model $W/best --lora $W/lora ${LAND:---prompts 50} --memory sparse+lora --memory short --memory sparse --memory sink) &
  l=$!
  on 1 eval1 evaluate.py $W/eval1 $e --run held:short:$s --run held:light+lora:$s --run held:sink:$s --run seen:short:5 --run held:light:$s
  while kill -0 $l 2> /dev/null && [ $(date +%s) -lt $((T + LAST)) ]; do sleep .5; done
  wait $beside
  ;;
esac
