package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

func testRegister() *register { return newRegister(rand.New(rand.NewPCG(1, 1)), time.Second) }

func TestRegisterTakesWhatIsWritten(t *testing.T) {
	g := testRegister()
	first := g.read(0, 7).Read
	g.write(first, 7)
	second := g.read(1, 8).Read
	if second.Read != first.Element || second.Fenced != first.Element || second.Element == first.Element {
		t.Errorf("after %+v, read %+v", first, second)
	}
}

func TestRegisterRefusesOldTokens(t *testing.T) {
	g := testRegister()
	late := g.read(0, 7).Read
	g.read(1, 8) // has not written yet: its read is enough
	if !g.write(late, 7).Write.Refused {
		t.Error("a write with an old token was taken")
	}
	plain, fenced := g.state()
	if plain != late.Element || fenced != 0 {
		t.Errorf("plain %d, fenced %d", plain, fenced)
	}
}

func TestRegisterTakesNoTokenForOne(t *testing.T) {
	g := testRegister()
	g.write(g.read(0, 0).Read, 0)
	if _, fenced := g.state(); fenced != 0 {
		t.Error("a write without a token was taken by the fenced register")
	}
}

func TestRegisterGrantsAWish(t *testing.T) {
	g := testRegister()
	if g.read(0, 1).Work == time.Hour {
		t.Error("nobody has wished for that")
	}
	w := g.next(time.Hour)
	if g.read(2, 2).Work != time.Hour {
		t.Error("it was not granted")
	}
	if holder := <-w.holder; holder != 2 {
		t.Errorf("holder %d", holder)
	}
	if g.read(1, 3).Work == time.Hour {
		t.Error("it was granted twice")
	}
}

func TestRegisterForgetsAWish(t *testing.T) {
	g := testRegister()
	g.forget(g.next(time.Hour))
	if g.read(2, 2).Work == time.Hour {
		t.Error("it was granted")
	}
}

func TestRegisterStopsBeforeAWriteOnce(t *testing.T) {
	g, stops := testRegister(), 0
	g.stopAt(1, func() { stops++ })
	for range 2 {
		g.act(0)
		g.act(1)
	}
	if stops != 1 {
		t.Errorf("stopped %d times", stops)
	}
}

// Two that read the same state lose one update, and the checker says so.
func TestRegisterLosesUpdates(t *testing.T) {
	g := testRegister()
	a, b := g.read(0, 1).Read, g.read(1, 2).Read
	h := &history.History{Validity: time.Second}
	for i, w := range []history.Write{a, b} {
		w = g.write(w, int64(i+1)).Write
		w.Checked, w.Acked = int64(10+i), int64(20+i)
		h.Rounds = append(h.Rounds, history.Round{Client: i, Got: 1, Alive: w.Checked, Token: int64(i + 1), Write: &w})
	}
	h.Final, h.Fenced = g.state()
	plain, fenced, err := h.LostUpdates(h.Margin())
	if err != nil || plain.Lost != 1 || fenced.Lost != 0 || fenced.Written != 1 {
		t.Errorf("plain %+v, fenced %+v, %v", plain, fenced, err)
	}
}
