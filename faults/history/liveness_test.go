package history

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// taken is a round that waited, had the lock and gave it back.
func taken(client int, asked, got, free int64) Round {
	return Round{Client: client, Asked: asked, Got: got, Alive: free - 1, Free: free, Freed: free + 1}
}

func failed(client int, asked, over int64) Round {
	return Round{Client: client, Asked: asked, Over: over, Error: "no"}
}

func blocked(client int, from, to int64) Strike {
	return Strike{Struck: from, Mended: to, Client: &client, Blocked: true}
}

func TestLiveness(t *testing.T) {
	lost := Round{Client: 0, Asked: 1, Got: 10, Alive: 20, Over: 90, Free: 91, Freed: 92, Lost: true}
	for name, c := range map[string]struct {
		rounds     []Round
		faults     []Strike
		free, late time.Duration
	}{
		"nothing":                   {nil, nil, 0, 0},
		"at once":                   {[]Round{taken(0, 10, 10, 20)}, nil, 0, 0},
		"free from the start":       {[]Round{taken(0, 10, 13, 20)}, nil, 3, 3},
		"free, and nobody waits":    {[]Round{taken(0, 10, 10, 20), taken(1, 50, 50, 60)}, nil, 0, 0},
		"behind another":            {[]Round{taken(0, 10, 10, 20), taken(1, 12, 25, 30)}, nil, 5, 5},
		"behind two":                {[]Round{taken(0, 9, 9, 20), taken(2, 9, 20, 24), taken(1, 9, 24, 30)}, nil, 0, 4},
		"behind itself":             {[]Round{taken(0, 9, 9, 20), taken(0, 9, 20, 24)}, nil, 0, 11},
		"lost, and seen much later": {[]Round{lost, taken(1, 15, 60, 70)}, nil, 40, 40},
		"never":                     {[]Round{taken(0, 10, 10, 20), {Client: 1, Asked: 30}}, nil, 70, 70},
		"held for ever":             {[]Round{{Client: 0, Asked: 9, Got: 10}, {Client: 1, Asked: 30}}, nil, 1, 1},
		"its holder was killed":     {[]Round{{Client: 0, Asked: 9, Got: 9, Over: 40}, taken(1, 30, 50, 60)}, nil, 10, 10},
		"again and again":           {[]Round{failed(0, 10, 20), failed(0, 30, 40), taken(0, 50, 60, 70)}, nil, 50, 50},
		"given up":                  {[]Round{failed(0, 10, 20), failed(0, 30, 40)}, nil, 30, 30},
		"given up after it had it":  {[]Round{taken(0, 10, 10, 11), failed(0, 30, 40)}, nil, 10, 10},
		"the waiter was stopped":    {[]Round{taken(0, 10, 60, 70)}, []Strike{blocked(0, 20, 55)}, 10, 10},
		"another was stopped":       {[]Round{taken(0, 10, 60, 70)}, []Strike{blocked(1, 20, 55)}, 50, 50},
		"all were cut off":          {[]Round{taken(0, 10, 60, 70)}, []Strike{{Struck: 5, Mended: 50, Blocked: true}}, 10, 10},
		"cut off to the end":        {[]Round{taken(0, 10, 60, 70)}, []Strike{{Struck: 30, Blocked: true}}, 20, 20},
		"it was struck, and served": {[]Round{taken(0, 10, 60, 70)}, []Strike{{Struck: 5, Mended: 50}}, 50, 50},
		"one can be served": {
			[]Round{taken(0, 10, 60, 70), failed(1, 10, 40)}, []Strike{blocked(0, 5, 58)}, 30, 30},
	} {
		h := &History{Rounds: c.rounds, Faults: c.faults, Ended: 100}
		if l := h.Liveness(1); l.Free != c.free || l.Late != c.late {
			t.Errorf("%s: free %d, late %d; not %d and %d", name, l.Free, l.Late, c.free, c.late)
		}
	}
}

func TestIdleLeavesOutHandoffs(t *testing.T) {
	ms := func(n int64) int64 { return n * int64(time.Millisecond) }
	h := &History{Rounds: []Round{
		taken(0, ms(1), ms(1), ms(10)), taken(1, ms(2), ms(110), ms(120)), taken(2, ms(3), ms(330), ms(340)), taken(3, ms(4), ms(490), ms(500)),
	}}
	if l := h.Liveness(0); l.Free != 210*time.Millisecond || l.Idle != 360*time.Millisecond {
		t.Errorf("%+v", l)
	}
}

func TestSharesOfClients(t *testing.T) {
	of := func(counts ...int) (h *History) {
		h = &History{Clients: make([]string, len(counts)), Ended: 100}
		for c, n := range counts {
			for range n {
				h.Rounds = append(h.Rounds, taken(c, 10, 10, 11))
			}
		}
		return h
	}
	for name, c := range map[string]struct {
		h     *History
		share float64
	}{
		"nobody":                {of(), 1},
		"none at all":           {of(0, 0), 1},
		"alike":                 {of(3, 3), 1},
		"half":                  {of(6, 3, 4), 2},
		"one has nothing":       {of(6, 0, 4), math.Inf(1)},
		"one was struck":        {with(of(6, 0, 4), blocked(1, 20, 30)), 1.5},
		"one was struck before": {counted(with(of(6, 0, 4), blocked(1, 1, 5)), 5), math.Inf(1)},
		"one stays struck":      {counted(with(of(6, 0, 4), blocked(1, 1, 0)), 5), 1.5},
		"all were struck":       {with(of(6, 2), Strike{Struck: 1}), 3},
		"before it is counted":  {counted(with(of(6, 2)), 11), 1},
	} {
		if got := c.h.Liveness(1).Share(); got != c.share {
			t.Errorf("%s: %v, not %v", name, got, c.share)
		}
	}
}

func with(h *History, faults ...Strike) *History {
	h.Faults = faults
	return h
}

func counted(h *History, since int64) *History {
	h.Counted = since
	return h
}

func TestWaitsOfAClient(t *testing.T) {
	h := &History{Ended: 100, Counted: 10, Rounds: []Round{
		taken(0, 5, 9, 10), taken(0, 20, 50, 51), failed(0, 60, 61), taken(0, 70, 71, 72), taken(1, 20, 90, 91)}}
	if got := h.Waits(0); !slices.Equal(got, []time.Duration{11, 30}) {
		t.Error(got)
	}
}

// TestLivenessOfRandomHistories looks at each nanosecond.
func TestLivenessOfRandomHistories(t *testing.T) {
	for seed := range uint64(600) {
		h := scribble(rand.New(rand.NewPCG(seed, 7)))
		turns := int(seed % 4)
		got, want := h.Liveness(turns), slowly(h, turns)
		if got.Free != want.Free || got.Wait != want.Wait || got.Late != want.Late {
			t.Fatalf("seed %d: %+v, not %+v", seed, got, want)
		}
	}
}

// scribble is a history of three workers of two clients that makes no sense, but for its order.
func scribble(r *rand.Rand) *History {
	h := &History{Ended: 100}
	for w := range 3 {
		for at := r.Int64N(20); at < 90; at += r.Int64N(4) {
			round := Round{Client: w / 2, Worker: w % 2, Asked: at}
			if at += 1 + r.Int64N(15); r.IntN(3) == 0 {
				round.Error, round.Over = "no", at
			} else {
				round.Got = at
				round.Alive = at + r.Int64N(10)
				at = round.Alive + 1 + r.Int64N(10)
				round.Free, round.Freed = at, at+1
				round.Lost = r.IntN(4) == 0
			}
			h.Rounds = append(h.Rounds, round)
		}
	}
	for range r.IntN(4) {
		s := Strike{Struck: 1 + r.Int64N(90), Blocked: r.IntN(4) > 0}
		s.Mended = s.Struck + r.Int64N(30)
		if client := r.IntN(3); client < 2 {
			s.Client = &client
		}
		h.Faults = append(h.Faults, s)
	}
	r.Shuffle(len(h.Rounds), func(i, j int) { h.Rounds[i], h.Rounds[j] = h.Rounds[j], h.Rounds[i] })
	return h
}

// slowly is Liveness, one nanosecond after the other.
func slowly(h *History, turns int) (l Liveness) {
	var free time.Duration
	waits := make(map[string]*waiting)
	for at := range h.Ended + 200 {
		held, servable := make(map[string]bool), false
		for _, r := range h.Rounds {
			to := r.Free
			if r.Lost {
				to = r.Alive
			}
			if r.Held() && r.Got <= at && at < to {
				held[fmt.Sprintf("%d.%d %d", r.Client, r.Worker, r.Got)] = true
			}
		}
		for w := range 3 {
			client, worker := w/2, w%2
			who := fmt.Sprintf("%d.%d ", client, worker)
			if !h.wanted(client, worker, at) || h.isBlocked(client, at) {
				if over := waits[who]; over != nil {
					l.Wait, l.Late = max(l.Wait, over.all), max(l.Late, over.late(turns))
				}
				delete(waits, who)
				continue
			}
			servable = true
			if waits[who] == nil {
				waits[who] = &waiting{by: make(map[string]time.Duration)}
			}
			wait := waits[who]
			wait.all++
			for holder := range held {
				if !strings.HasPrefix(holder, who) {
					wait.by[holder]++
				}
			}
		}
		if free++; len(held) > 0 || !servable {
			free = 0
		}
		l.Free = max(l.Free, free)
	}
	return l
}

// waiting is a wait that goes on.
type waiting struct {
	all time.Duration
	by  map[string]time.Duration // how long others had the lock meanwhile
}

func (w *waiting) late(turns int) time.Duration {
	var lasted []time.Duration
	for _, d := range w.by {
		lasted = append(lasted, d)
	}
	slices.Sort(lasted)
	slices.Reverse(lasted)
	late := w.all
	for _, d := range lasted[:min(turns, len(lasted))] {
		late -= d
	}
	return late
}

// wanted tells whether a worker wants the lock at a time: it has called for it, or has been turned
// away and will call again.
func (h *History) wanted(client, worker int, at int64) bool {
	var asked, answered int64 = -1, -1
	again := false
	for _, r := range h.Rounds {
		if r.Client != client || r.Worker != worker {
			continue
		}
		if r.Asked <= at && r.Asked > asked {
			asked, answered = r.Asked, max(r.Got, r.Over)
			again = !r.Held()
		}
	}
	if asked < 0 {
		return false
	}
	if at < answered {
		return true
	}
	return again && slices.ContainsFunc(h.Rounds, func(r Round) bool { return r.Client == client && r.Worker == worker && r.Asked > at })
}

func (h *History) isBlocked(client int, at int64) bool {
	return slices.ContainsFunc(h.Faults, func(s Strike) bool {
		return s.Blocked && s.Struck <= at && at < s.Mended && (s.Client == nil || *s.Client == client)
	})
}

// TestALineIsNeverLate has a lock that is handed to the first of the line at once: whatever holders
// do, nobody waits for longer than the turns of those before.
func TestALineIsNeverLate(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 8))
		n := 2 + r.IntN(5)
		h := new(History)
		asked := make([]int64, n)
		for i := range asked {
			asked[i] = r.Int64N(10)
		}
		for now := int64(10); now < 5000; {
			next := 0
			for i := range asked {
				if asked[i] < asked[next] {
					next = i
				}
			}
			now = max(now, asked[next])
			free := now + 1 + r.Int64N(50)
			h.Rounds = append(h.Rounds, taken(next, asked[next], now, free))
			now, asked[next] = free, free+r.Int64N(20)
		}
		h.Ended = h.Rounds[len(h.Rounds)-1].Free
		first := h.Rounds[0]
		if l := h.Liveness(n - 1); l.Free > time.Duration(first.Got) || l.Late > time.Duration(first.Got) {
			t.Fatalf("seed %d: %+v", seed, l)
		}
	}
}

func TestLivenessOfALongHistory(t *testing.T) {
	h := &History{Ended: 2_000_000}
	for i := range int64(100_000) {
		h.Rounds = append(h.Rounds, taken(int(i%7), 10*i, 10*i+10, 10*i+20))
	}
	began := time.Now()
	if l := h.Liveness(2); l.Free != 10 || l.Wait != 10 {
		t.Errorf("%+v", l)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Error("it took", took)
	}
}
