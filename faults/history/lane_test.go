package history

import (
	"fmt"
	"testing"
)

func TestLanes(t *testing.T) {
	h := &History{Rounds: []Round{{Client: 2, Asked: 5}, {Client: 1, Worker: 1, Asked: 1}, {Client: 1, Asked: 2}, {Client: 2, Asked: 4}}}
	lanes, of := h.lanes()
	got := ""
	for _, l := range lanes {
		got += fmt.Sprintf("%d/%s: %v; ", l.client, l.label, l.rounds)
	}
	if got != "1/0: [2]; 1/1: [1]; 2/0: [3 0]; " || fmt.Sprint(of) != "[2 1 0 2]" || fmt.Sprint(clients(lanes)) != "[[0 2] [2 3]]" {
		t.Error(got, of, clients(lanes))
	}
}

func TestManyLanes(t *testing.T) {
	for _, c := range []struct{ clients, workers, want, first, last int }{
		{8, 6, 48, 1, 1},     // each worker has one
		{7, 7, 7, 7, 7},      // each client has one
		{100, 2, 48, 2, 106}, // the last has all that remain
		{100, 50, 48, 50, 53 * 50},
	} {
		h := new(History)
		for i := range c.clients * c.workers {
			h.Rounds = append(h.Rounds, Round{Client: i / c.workers, Worker: i % c.workers})
		}
		lanes, _ := h.lanes()
		if n := len(lanes); n != c.want || len(lanes[0].rounds) != c.first || len(lanes[n-1].rounds) != c.last {
			t.Errorf("%v: %d lanes, %d and %d", c, n, len(lanes[0].rounds), len(lanes[n-1].rounds))
		}
	}
}
