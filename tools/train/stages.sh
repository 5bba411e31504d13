#!/bin/bash
# All stages on one machine, each at its own time of day: stages.sh MODEL WORK AE FLOW DMD
# MODEL: the folder to go on from; AE, FLOW, DMD: seconds from now at which the three trainings end (AE 0: the autoencoder and the
# judge are in WORK already). A script that needs another's result compiles first and waits for it, so that the card is never idle.
cd "$(dirname "$0")"
M=$1 W=$2; mkdir -p $W; T=$(date +%s); echo $T > $W/start
export PYTHONUNBUFFERED=1
python3 restore_teacher.py $M $W/teacher0 > $W/restore.log 2>&1
if [ $3 != 0 ]; then
  python3 judge.py $W/judge 60 --deadline $((T + 115)) > $W/judge.log 2>&1 &
  python3 train_ae.py $W/ae 60 --init $M --lr 8e-4 --deadline $((T + $3)) > $W/ae.log 2>&1 &
  sleep 60
fi
flow="python3 train_flow.py $W/flow 60 --init $W/teacher0 --vae $W/ae --wait --fill 9 --deadline $((T + $4))"
($flow > $W/flow.log 2>&1 || $flow --eager > $W/flow2.log 2>&1) &
sleep $(($4 - 110))
python3 train_dmd.py $W/dmd 60 --init $W/flow --cues $W/flow --wait --deadline $((T + $5)) > $W/dmd.log 2>&1 &
wait
