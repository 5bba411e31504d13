#!/bin/bash
# The fifth training, on four GPUs of one machine, in the parts that were run (README.md, "Fifth run"). All times are seconds after the
# beginning of a part; what a part leaves running ends at a time of its own and belongs to the next.
#   go_on.sh look  MODEL WORK     what the teacher's answers show, and some iterations, to see that all runs
#   go_on.sh teacher MODEL WORK   not run yet: a teacher that turns back, on all cards, from the one of `look`; what its answers show then
#   go_on.sh dense MODEL WORK     the student, on all cards
#   go_on.sh lora  MODEL WORK     candidates judged on prompts of their own, the best one exported; its additions, two cards each
#   go_on.sh rest  MODEL WORK     the additions end; the tables and landmarks of docs/model-quality.md
# The sixth to eighth, which teach the memory of Sparse Forcing to remember:
#   go_on.sh recall MODEL WORK    an addition, two cards, and beside it all weights; both looked at
#   go_on.sh more  MODEL WORK     the addition goes on, on CARDS cards beginning with CARD; what is made is called NAME
#   go_on.sh memory MODEL WORK    the addition, and part of the way to it: judged and led
#   go_on.sh tune  MODEL WORK     lessons alone, kept to the fifth run's addition in all else (LIKE: how strongly, a card each of CARDS), into WORK/candidates
#   go_on.sh weigh MODEL WORK     candidates WORK/candidates/*/sparse-forcing.safetensors (blend.py): judged on prompts for choosing, and led
#   go_on.sh final MODEL WORK     the candidate CHOSEN (a folder) and dense for a minute from the same noise, on prompts of SEED; its memory on all loops, led on 2 x LED clips
#                                 (the prompts of 11, 12 and 14 were chosen by, 13 and 15 only reported; led: 5 chosen by, 6 reported)
cd "$(dirname "$0")"
part=$1 M=$2 W=$3
: ${FLOW:=500} ${TEACH:=525} ${GUIDE:=3} ${RATE:=8e-5} ${TRY:=95} ${DENSE:=560} ${LORA:=430} ${LAST:=400} ${BATCH:=24}
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=2
mkdir -p $W
PY=${PY:-python3}
bg() { cards=$1 name=$2; shift 2; CUDA_VISIBLE_DEVICES=$cards setsid $PY "$@" > $W/$name.log 2>&1 < /dev/null & echo $! > $W/$name.pid; }
on() { card=$1 name=$2; shift 2; CUDA_VISIBLE_DEVICES=$card $PY "$@" > $W/$name.log 2>&1; }
alive() { state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' /proc/$(cat $W/$1.pid 2> /dev/null || echo none)/status 2> /dev/null); [ -n "$state" ] && [ $state != Z ]; }
end() { for x in "$@"; do while alive $x; do sleep .3; done; done; }  # of trainings, with their memory
several() { [ $1 = 1 ] && echo "${3:-train_dmd.py}" || echo "-m torch.distributed.run --nproc_per_node=$1 --master_port=$2 -- ${3:-train_dmd.py}"; }
clips() { for x in "$@"; do rm -rf ${x#*:}; mkdir -p ${x#*:}; CUDA_VISIBLE_DEVICES=${x%%:*} setsid $PY clips.py ${x#*:} --vae $M --loops ${LOOPS:-.85} --frames ${FRAMES:-45} --ahead 4 --deadline $((T + TEACH)) > ${x#*:}.log 2>&1 < /dev/null & done; }
T=$(date +%s)
judge="--judge state/judge.pt $EVAL" s=${SECS:-60} look=${LOOK:-20} other="--seed 12 --prompts ${OTHER:-400}"
prompts="--cue ${CUE:-2} --long .6 --away .4 --pulses .25 --crossed .15"
learn="--init $M --teacher $W/teacher --cues $W/guide $prompts --guide $GUIDE --batch $BATCH --recipe sparse-forcing --alone ${ALONE:-0} --recall ${RECALL:-1} --deadline $((T + TEACH)) $MORE"
before=${BEFORE:-state/fifth.safetensors} marks="--prompts ${MARKS:-100} --batch 50"
how="--init $M --teacher ${TEACHER:-$W/teacher} --cues $W/guide $prompts --guide $GUIDE --lr $RATE --clr 1.6e-4 --window 12 --sink 0 --batch $BATCH"
case $part in
look)
  $PY restore_teacher.py $M $W/teacher > $W/restore.log 2>&1
  $PY guide.py state/guide.safetensors $W/guide
  bg 0,1,2,3 try $(several 4 29501) $W/try 60 $how --deadline $((T + TRY))
  t="--model $M --teacher $W/teacher $judge"
  on 0 whole3 evaluate.py $W/whole3 $t --run held:whole:5 --scale 3 &
  on 1 whole5 evaluate.py $W/whole5 $t --run held:whole:5 --scale 5 &
  on 2 whole8 evaluate.py $W/whole8 $t --run held:whole:5 --scale 8 &
  on 3 before evaluate.py $W/before $t --run held:short:$look $other &
  wait
  end try
  ;;
teacher)
  bg 0,1,2,3 flow $(several 4 29505 train_flow.py) $W/flow 60 --init $W/teacher --start .8 --lr 3e-3 --whole --away .5 --freeze-text --no-cues --sheets 0 --deadline $((T + FLOW))
  end flow
  on 0 whole3t evaluate.py $W/whole3t --model $M --teacher $W/flow $judge --run held:whole:5 --scale 3 &
  on 1 whole5t evaluate.py $W/whole5t --model $M --teacher $W/flow $judge --run held:whole:5 --scale 5 &
  on 2 teacher evaluate.py $W/teacher-causal --model $M --teacher $W/flow $judge --run held:teacher:5 &
  wait
  ;;
dense)
  bg 0,1,2,3 a $(several 4 29502) $W/a 60 $how --deadline $((T + DENSE))
  end a
  ;;
lora)
  mkdir -p $W/best
  lora="--init $W/best --teacher ${TEACHER:-$W/teacher} --cues $W/guide --critic $W/best $prompts --guide $GUIDE --lora 16 --lr 3e-4 --wait --deadline $((T + LORA))"
  bg 0,1 sparse $(several 2 29503) $W/sparse 60 $lora --recipe sparse-forcing --batch $BATCH
  bg 2,3 light $(several 2 29504) $W/light 60 $lora --recipe light-forcing --batch ${LIGHT:-20} --streams 2
  on 0 eval-a evaluate.py $W/eval-a --model $W/a $judge --run held:short:$look $other & look1=$!
  for share in 5 7 9; do  # part of the way
    (on $((share / 2 - 1)) blend-$share blend.py $M $W/a $W/a$share .$share
     on $((share / 2 - 1)) eval-a$share evaluate.py $W/eval-a$share --model $W/a$share $judge --run held:short:$look $other) & look1="$look1 $!"
  done
  wait $look1
  best=${BEST:-$($PY - $W $look <<'END'
import json, sys
want = {"colour": 95, "shape": 90, "scene": 95, "motion": 90, "camera": 90}
def points(path):
    try:
        r = json.load(open(path))
        return round(sum(min(r[f"held:short:{sys.argv[2]}, {w} 5 s"][h][0], t + 4) for w in ("first", "last") for h, t in want.items()), 1)
    except (OSError, KeyError, ValueError):
        return 0
p = {x: points(f"{sys.argv[1]}/{f}/evaluation.json") for x, f in (("m", "before"), ("a", "eval-a"), ("a9", "eval-a9"), ("a7", "eval-a7"), ("a5", "eval-a5"))}
print(max(p, key=p.get), p)
END
)}
  echo "$best" | tee $W/best.log
  x=${best%% *}
  cp $W/a/critic.part* $W/best/
  if [ $x = m ]; then cp -r $M/. $W/best/; else cp $W/$x/ckpt.part* $W/best/; fi
  touch $W/best/done $W/teacher/done
  $PY - $M $W <<'END'
import json, sys
c = json.load(open(sys.argv[1] + "/tiny_vae/config.json"))
json.dump({"mean": c["measured_latent_mean"], "std": c["measured_latent_std"]}, open(sys.argv[2] + "/stats.json", "w"))
END
  $PY export.py $W/best $W/model --stats $W/stats.json --distilled --stage "B: Self-Forcing distillation, fifth run" --window 12 --sink 0 > $W/export.log 2>&1
  [ -n "$BESIDE" ] && $BESIDE & beside=$!  # something for the processors, if there is
  end sparse light
  kill -TERM $beside 2> /dev/null; wait $beside
  ;;
rest)
  [ -n "$BESIDE" ] && $BESIDE & beside=$!
  mkdir -p $W/lora; cp $W/sparse/*.safetensors $W/light/*.safetensors $W/lora/
  e="--model $W/best $judge --lora $W/lora --teacher $W/teacher --deadline $((T + LAST - 60))"
  marks="landmarks.py --model $W/best --lora $W/lora ${LAND:---prompts 50}"
  (on 0 eval0 evaluate.py $W/eval0 $e --run held:short:$s --run held:sparse:$s --run seen:short:5
   on 0 landmarks landmarks.py $W/landmarks.json --model $W/best --lora $W/lora ${LAND:---prompts 50} --memory sparse+lora --memory short) &
  (on 1 eval1 evaluate.py $W/eval1 $e --run held:sparse+lora:$s --run held:light+lora:$s) &
  (on 2 eval2 evaluate.py $W/eval2 $e --run held:sink:$s --run held:light:$s) &
  (on 3 away landmarks.py $W/landmarks-away.json --loop away --model $W/best --lora $W/lora ${AWAY:---prompts 100} --deadline $((T + LAST - 30)) \
     --memory short --memory sparse+lora --memory short-sink --memory sparse --memory sink --memory light+lora) &
  for j in $(jobs -p); do [ "$j" = "$beside" ] || wait $j; done
  wait $beside
  ;;
recall)
  [ -d $W/teacher ] || $PY restore_teacher.py $M $W/teacher > $W/restore.log 2>&1
  $PY guide.py state/guide.safetensors $W/guide
  clips 0:$W/clips-lora0 1:$W/clips-lora1 2:$W/clips-all0 3:$W/clips-all1
  bg 0,1 memory $(several 2 29506) $W/memory 60 $learn --from ${FROM:-$before} --clips $W/clips-lora --lora ${RANK:-32} --lr 3e-4 --rlr ${RLR:-6e-4}
  bg 2,3 all $(several 2 29507) $W/all 60 $learn --from ${FROM:-$before} --clips $W/clips-all --lr 8e-5 --rlr ${ALLRLR:-2e-4}
  end memory all
  (on 0 led-memory landmarks.py $W/led-memory.json --loop led --model $M --lora $W/memory $marks --memory sparse+lora) &
  (on 1 eval-memory evaluate.py $W/eval-memory --model $M --lora $W/memory $judge --run held:sparse+lora:$look $other) &
  (on 2 led-all landmarks.py $W/led-all.json --loop led --model $W/all $marks --memory sparse) &
  (on 3 eval-all evaluate.py $W/eval-all --model $W/all $judge --run held:sparse:$look $other) &
  wait
  ;;
more)
  (flock 9  # of several that begin at once the first one restores
   [ -d $W/teacher ] || $PY restore_teacher.py $M $W/teacher > $W/restore.log 2>&1
   [ -d $W/guide ] || $PY guide.py state/guide.safetensors $W/guide) 9> $W/restore.lock
  n=${CARDS:-4} first=${CARD:-0} name=${NAME:-more}
  for card in $(seq 0 $((n - 1))); do clips $((first + card)):$W/clips-$name$card; done
  [ -e ${CRITIC:-$W/memory}/critic.part0 ] && critic="--critic ${CRITIC:-$W/memory}" || critic=""  # else it begins as the teacher
  bg $(seq -s, $first $((first + n - 1))) $name $(several $n $((29508 + first))) $W/$name 60 $learn --from ${FROM:-$W/memory/sparse-forcing.safetensors} $critic --clips $W/clips-$name --lora ${RANK:-32} --lr ${LR:-3e-4} --rlr ${RLR:-6e-4}
  end $name
  [ -e $W/$name/done ] && mkdir -p $W/candidates/$name && cp $W/$name/sparse-forcing.safetensors $W/candidates/$name/  # for `weigh`
  ;;
memory)
  mkdir -p $W/part
  $PY blend.py $before $W/more/sparse-forcing.safetensors $W/part/sparse-forcing.safetensors ${SHARE:-.6} > $W/blend.log 2>&1
  (on 0 eval-more evaluate.py $W/eval-more --model $M --lora $W/more $judge --seed 13 --prompts 400 --run held:sparse+lora:$s) &
  (on 1 eval-part evaluate.py $W/eval-part --model $M --lora $W/part $judge --seed 13 --prompts 400 --run held:sparse+lora:$s) &
  (on 2 led-more landmarks.py $W/led-more.json --loop led --model $M --lora $W/more $marks --memory sparse+lora --memory short+lora --memory short
   on 2 away-more landmarks.py $W/away-more.json --loop away --model $M --lora $W/more $marks --deadline $((T + LAST)) --memory sparse+lora) &
  (on 3 led-part landmarks.py $W/led-part.json --loop led --model $M --lora $W/part $marks --memory sparse+lora --memory short+lora
   on 3 look-part evaluate.py $W/look-part --model $M --lora $W/part $judge --deadline $((T + LAST)) $other --run held:sparse+lora:$look
   on 3 look-more evaluate.py $W/look-more --model $M --lora $W/more $judge --deadline $((T + LAST)) $other --run held:sparse+lora:$look) &
  wait
  ;;
tune)
  n=0
  for like in ${LIKE:-3 10 30}; do
    c=$W/candidates/like-$like card=$((n % ${CARDS:-4})) n=$((n + 1))
    mkdir -p $c
    clips $card:$W/clips-${like}0
    tune="$c 60 --init $M --from ${FROM:-state/tuned.safetensors} --like $before --alike $like --rate ${RLR:-4e-4} --clips $W/clips-$like --deadline $((T + TEACH)) $MORE"
    (on $card tune-$like train_recall.py $tune || on $card tune-$like-eager train_recall.py $tune --eager) &  # captured, if it can be
    tunes="$tunes $!"
  done
  wait $tunes
  ;;
weigh)
  n=0
  for c in $W/candidates/*/; do
    name=$(basename $c) card=$((n % ${CARDS:-4})) n=$((n + 1))
    (on $card weigh-$name evaluate.py $W/weigh-$name --model $M --lora $c $judge --run held:sparse+lora:$look $other
     on $card led-$name landmarks.py $W/led-$name.json --loop led --model $M --lora $c $marks --memory sparse+lora) &
  done
  wait
  ;;
final)
  chosen=${CHOSEN:-$W/candidates/more} last=$((${CARDS:-2} > 1))
  n=$(basename $chosen) lora="--model $M --lora $chosen"
  (for seed in ${SEED:-16}; do
     on 0 final-$n-$seed evaluate.py $W/final-$n-$seed $lora $judge --seed $seed --prompts ${FRESH:-400} --name "seed $seed, $n" --run held:short:$s --run held:sparse+lora:$s
   done
   on 0 final-$n-old evaluate.py $W/final-$n-old $lora $judge --prompts ${OLD:-200} --run held:sparse+lora:$s) &
  (on $last final-$n-led landmarks.py $W/final-$n-led.json --loop led $lora --prompts ${LED:-200} --batch 50 --seed 6 --memory short --memory sparse+lora --memory short+lora
   on $last final-$n-away landmarks.py $W/final-$n-away.json --loop away $lora $marks --memory sparse+lora
   on $last final-$n-turn landmarks.py $W/final-$n-turn.json $lora --prompts ${TURN:-50} --memory sparse+lora) &
  wait
  ;;
esac
