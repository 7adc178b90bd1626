package history

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

// busy makes up a run of clients with workers each, whose holdings take about a time each.
func busy(clients, workers, rounds int, each int64, seed uint64) *History {
	r := rand.New(rand.NewPCG(seed, 5))
	h := &History{Fault: "the server is frozen", Library: "ctxlock", Version: "v0.9", Server: "valkey 8.1", Seed: seed,
		Validity: time.Second, Began: 7_000_000}
	asked := make([]int64, clients*workers)
	t := h.Began + each
	for i := range asked {
		asked[i] = h.Began + r.Int64N(each)
	}
	for i := range rounds {
		who := r.IntN(len(asked))
		got := max(t, asked[who]+1) + each/20
		alive := got + each/2 + r.Int64N(each)
		e := Element(i + 1)
		h.Rounds = append(h.Rounds, Round{Client: who / workers, Worker: who % workers, Asked: asked[who], Got: got, Alive: alive, Token: int64(e),
			Free: alive + each/20, Freed: alive + each/10, Write: &Write{Element: e, Read: e - 1, Fenced: e - 1, Checked: alive, Acked: alive + each/30}})
		asked[who] = alive + each/10 + r.Int64N(each)
		t = alive + each/20
	}
	h.Final, h.Fenced, h.Ended = Element(rounds), Element(rounds), t+each
	return h
}

// chaos makes up a run in which nothing is right, and as much as can be is to be drawn.
func chaos(rounds, clients, workers int) *History {
	r := rand.New(rand.NewPCG(uint64(rounds), 6))
	h := &History{Fault: "chaos", Library: "none", Server: "none", Began: 5, Ended: int64(time.Minute), Validity: time.Millisecond}
	for i := range rounds {
		at := r.Int64N(h.Ended)
		short := func() int64 { return 1 + r.Int64N(20*ms*int64(1+r.IntN(2)*r.IntN(20))) }
		w := &Write{Element: Element(i + 1), Checked: at + short(), Acked: at + short(), Refused: r.IntN(3) == 0}
		h.Rounds = append(h.Rounds, Round{Client: r.IntN(clients), Worker: r.IntN(workers), Asked: at, Got: at + short(), Alive: at + short(),
			Over: at + short(), Lost: r.IntN(2) == 0, Token: 1, Write: w, Error: strings.Repeat("<&\"", 100)})
	}
	for i := range 1000 {
		at := r.Int64N(h.Ended)
		h.Faults = append(h.Faults, Strike{Name: strings.Repeat("&", i%100), Struck: at, Mended: at + 10*ms})
	}
	return h
}

// struck makes up a run in which everything happens that is drawn.
func struck() *History {
	h := busy(3, 3, 60, 150*ms, 1)
	one := 1
	at := h.Rounds[20].Alive
	for i := 21; i < len(h.Rounds); i++ {
		h.Rounds[i].delay(2000 * ms) // the server is frozen meanwhile
	}
	h.Ended += 2000 * ms
	h.Rounds[20].Lost, h.Rounds[20].Alive, h.Rounds[20].Over = true, at+650*ms, at+950*ms
	h.Rounds[20].Free, h.Rounds[20].Freed, h.Rounds[20].Error, h.Rounds[20].Write = h.Rounds[20].Over+ms, 0, `lost: "no <answer>" & more`, nil
	h.Rounds[21].Write.Read, h.Rounds[21].Write.Fenced = 20, 20
	// Its process sleeps before it writes.
	s := &h.Rounds[40]
	w := s.Write
	w.Acked, w.Refused, s.Lost, s.Over = w.Checked+900*ms, true, true, w.Checked+901*ms
	h.Rounds[41].Write.Fenced = 40
	w.Read = h.Rounds[41].Write.Element
	h.Rounds[41].Write.Read = 40
	// Two at once: the second does not see what the first wrote, as that one does not see the second.
	a, b := &h.Rounds[50], &h.Rounds[51]
	b.Got = a.Alive - 60*ms
	b.Write.Read = a.Write.Read
	h.Faults = []Strike{
		{Name: "frozen <server>", Struck: at, Mended: at + 1900*ms},
		{Name: "SIGSTOP", Struck: w.Checked, Mended: w.Acked - 40*ms, Client: &one},
		{Name: "failover", Struck: b.Got - 20*ms},
	}
	s.Client, s.Worker = 1, 2
	return h
}

func (r *Round) delay(by int64) {
	for _, t := range []*int64{&r.Asked, &r.Got, &r.Alive, &r.Free, &r.Freed, &r.Write.Checked, &r.Write.Acked} {
		*t += by
	}
}

// turns makes up a run of 60,000 short holdings, in which the clients take turns and one fault strikes.
func turns() *History {
	h := busy(4, 3, 60_000, ms/4, 3)
	const struck = 30_000
	for i := range h.Rounds {
		h.Rounds[i].Client = i / 97 * 7 % 4
		if i > struck {
			h.Rounds[i].delay(3000 * ms)
		}
	}
	r := &h.Rounds[struck]
	h.Faults = []Strike{{Name: "primary killed", Struck: r.Free, Mended: r.Free + 2700*ms}}
	r.Alive, r.Over, r.Lost = r.Alive+600*ms, r.Alive+900*ms, true
	h.Ended += 3000 * ms
	return h
}

// drawn draws a history twice, checks what holds for all pictures, and returns the texts in it and the elements, by class.
func drawn(t *testing.T, h *History, o PictureOptions) (texts []string, classes map[string]int) {
	t.Helper()
	var first, again bytes.Buffer
	if err := errors.Join(h.PictureOf(&first, o), h.PictureOf(&again, o)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Error("drawn again it is another picture")
	}
	if first.Len() > 300_000 {
		t.Error(first.Len(), "bytes")
	}
	classes = make(map[string]int)
	for d := xml.NewDecoder(&first); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts, classes
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.CharData:
			texts = append(texts, strings.TrimSpace(string(token)))
		case xml.StartElement:
			fits(t, token)
			for _, a := range token.Attr {
				if a.Name.Local == "class" {
					classes[a.Value]++
				}
			}
		}
	}
}

// fits checks that an element is within the picture.
func fits(t *testing.T, e xml.StartElement) {
	t.Helper()
	at := make(map[string]float64)
	for _, a := range e.Attr {
		if v, err := strconv.ParseFloat(a.Value, 64); err == nil {
			at[a.Name.Local] = v
		}
	}
	if at["x"] < 0 || at["x"]+at["width"] > pictureWidth || e.Name.Local == "rect" && (at["width"] <= 0 || at["height"] <= 0) {
		t.Errorf("%s at %v", e.Name.Local, at)
	}
}

func TestPictureShowsWhatHappened(t *testing.T) {
	texts, classes := drawn(t, struck(), PictureOptions{})
	all := strings.Join(texts, "\n")
	for _, want := range []string{
		"ctxlock v0.9 on valkey 8.1: the server is frozen, seed 1",
		"✗ 1 overlap, 60ms in all, longest 60ms", "✗ 1 of 59 updates lost (and 1 late)", "✓ no fenced update of 58 lost", "60 holdings, 4.9 a second",
		"client 0", "client 1", "client 2", "frozen <server>", "SIGSTOP (client 1)", "failover", "0 s", "12",
		`lost, token 21: lost: "no <answer>" & more`,
		"held, for certain", "perhaps held still", "waiting", "write", "refused by the fence", "two at once", "lost update",
		"lost, but written too late for any lock", "fault",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in:\n%s", want, all)
		}
	}
	// One of each is in the legend. Marks of a kind are one path for each of 9 lanes, bars are one each.
	for class, want := range map[string]int{"held": 61, "wait": 10, "refused": 2, "gone": 2, "late": 2, "struck": 4, "edge": 3, "link": 1, "both": 4} {
		if classes[class] != want {
			t.Errorf("%d of %s, not %d", classes[class], class, want)
		}
	}
}

func TestPictureOfAWindow(t *testing.T) {
	texts, classes := drawn(t, struck(), PictureOptions{From: 4 * time.Second, To: 6 * time.Second})
	for want, there := range map[string]bool{
		"frozen <server>": true, "failover": false, "SIGSTOP (client 1)": false, "4.0 s": true, "5.8": true, "6.2": false, "two at once": false,
		"60 holdings, 4.9 a second · the figures are of the whole run, the picture is of 4s to 6s": true,
	} {
		if slices.Contains(texts, want) != there {
			t.Errorf("%q: %v, in %q", want, !there, texts)
		}
	}
	if classes["held"] != 5 || classes["both"] != 0 {
		t.Error(classes)
	}
}

func TestPictureOfManyHoldings(t *testing.T) {
	texts, classes := drawn(t, turns(), PictureOptions{})
	if !slices.Contains(texts, "many short holdings: higher is longer") || classes["wrote"] != 0 {
		t.Error("drawn as if they were few:", classes)
	}
	if !strings.Contains(strings.Join(texts, "\n"), "lost, token 30001") {
		t.Error("the one long holding has no title")
	}
}

func TestPictureSizeIsBounded(t *testing.T) {
	for _, h := range []*History{
		busy(4, 4, 100_000, ms/4, 2), busy(5, 2, 900, 20*ms, 2), busy(8, 8, 3000, 20*ms, 2), busy(4, 10, 3000, 20*ms, 2),
		chaos(30_000, 5, 9), chaos(10_000, 12, 4), chaos(2000, 3, 4), chaos(20_000, 100, 100), new(History),
	} {
		drawn(t, h, PictureOptions{})
		drawn(t, h, PictureOptions{From: time.Second})
	}
}

// TestPictureOfOneThing has histories of one round.
func TestPictureOfOneThing(t *testing.T) {
	for name, c := range map[string]struct {
		round   Round
		classes []string
	}{
		"a wait without end":    {Round{Asked: 100}, []string{"wait"}},
		"never seen alive":      {Round{Asked: 100, Got: 100, Free: 900}, []string{"maybe"}},
		"never given back":      {Round{Asked: 100, Got: 100, Alive: 900}, []string{"held"}},
		"a moment":              {Round{Asked: 100, Got: 100, Alive: 100}, []string{"held"}},
		"never acknowledged":    {Round{Asked: 100, Got: 100, Write: &Write{Element: 1, Checked: 500}}, []string{"maybe", "wrote"}},
		"long on its way":       {Round{Asked: 100, Got: 100, Write: &Write{Element: 1, Checked: 500, Acked: 800}}, []string{"maybe", "wrote", "gone"}},
		"all of it, given back": {Round{Asked: 100, Got: 300, Alive: 600, Free: 700, Freed: 800}, []string{"held", "maybe", "wait"}},
		"ended before it began": {Round{Asked: 900, Got: 100, Alive: 50}, []string{"maybe"}},
	} {
		h := &History{Began: 0, Ended: 1000, Rounds: []Round{c.round}}
		_, classes := drawn(t, h, PictureOptions{})
		for _, class := range []string{"held", "maybe", "wait", "wrote", "gone"} {
			if want := slices.Contains(c.classes, class); want != (classes[class] > 0) {
				t.Errorf("%s: %d %s", name, classes[class], class)
			}
		}
	}
}

func TestNoPictureOfAContradiction(t *testing.T) {
	var b bytes.Buffer
	if err := (&History{Final: 1}).Picture(&b); err == nil || b.Len() > 0 {
		t.Error(err, b.Len())
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		from, to float64
		want     string
	}{
		{0, 12, "0 2 4 6 8 10 12"},
		{0, 10, "0 1 2 3 4 5 6 7 8 9 10"},
		{0.3, 0.5, "0.30 0.32 0.34 0.36 0.38 0.40 0.42 0.44 0.46 0.48 0.50"},
		{-3, 1, "-3.0 -2.5 -2.0 -1.5 -1.0 -0.5 0.0 0.5 1.0"},
		{7, 300, "50 100 150 200 250 300"},
	} {
		marks, decimals := ticks(c.from, c.to)
		var got []string
		for _, m := range marks {
			got = append(got, fmt.Sprintf("%.*f", decimals, m+0))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("from %v to %v: %s", c.from, c.to, s)
		}
	}
}

func TestShares(t *testing.T) {
	s := scale{left: 100, width: 40}
	got := s.shares([]span{{100, 105}, {115, 130}, {119, 120}}, 10)
	if fmt.Sprintf("%.2f", got) != "[0.50 0.60 1.00 0.00 0.00]" {
		t.Error(got)
	}
}
