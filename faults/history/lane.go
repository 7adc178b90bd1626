package history

import (
	"cmp"
	"fmt"
	"slices"
)

// lane is a line of the picture: what one worker did, or one client where there are many.
type lane struct {
	client int
	label  string
	rounds []int   // places in History.Rounds, in order of time
	top    float64 // in pixels
}

// mostLanes are more than one can tell apart.
const mostLanes = 48

type worker struct{ client, worker int }

// lanes are the lanes of a history, and which of them each round is in. If there are too many workers, those of a client share one, and if
// there are too many clients, the last lane has all that remain.
func (h *History) lanes() (lanes []lane, of []int) {
	of = make([]int, len(h.Rounds))
	workers := h.workers(func(r Round) worker { return worker{r.Client, r.Worker} })
	who := func(r Round) worker { return worker{r.Client, r.Worker} }
	if len(workers) > mostLanes {
		who = func(r Round) worker { return worker{r.Client, 0} }
		workers = h.workers(who)
	}
	place := make(map[worker]int)
	for i, w := range workers {
		place[w] = min(i, mostLanes-1)
		if i < mostLanes {
			lanes = append(lanes, lane{client: w.client, label: fmt.Sprint(w.worker)})
		}
	}
	for _, i := range h.inOrder() {
		of[i] = place[who(h.Rounds[i])]
		lanes[of[i]].rounds = append(lanes[of[i]].rounds, i)
	}
	return lanes, of
}

// workers are all there are, in order.
func (h *History) workers(who func(Round) worker) []worker {
	seen := make(map[worker]bool)
	var workers []worker
	for _, r := range h.Rounds {
		if w := who(r); !seen[w] {
			seen[w] = true
			workers = append(workers, w)
		}
	}
	slices.SortFunc(workers, func(a, b worker) int {
		return cmp.Or(cmp.Compare(a.client, b.client), cmp.Compare(a.worker, b.worker))
	})
	return workers
}

// inOrder are the places of the rounds in the order in which they asked.
func (h *History) inOrder() []int {
	places := make([]int, len(h.Rounds))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(h.Rounds[a].Asked, h.Rounds[b].Asked) })
	return places
}

// clients are the lanes of each client: from one up to, but without, another.
func clients(lanes []lane) (groups [][2]int) {
	for i, l := range lanes {
		if i == 0 || lanes[i-1].client != l.client {
			groups = append(groups, [2]int{i, i})
		}
		groups[len(groups)-1][1] = i + 1
	}
	return groups
}
