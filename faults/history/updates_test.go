package history

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// wrote is a round that was alive until checked, and wrote then.
func wrote(e, read Element, checked, acked int64) Round {
	return Round{Got: checked, Alive: checked, Token: int64(e), Write: &Write{Element: e, Read: read, Fenced: read, Checked: checked, Acked: acked}}
}

func refused(r Round) Round {
	r.Write.Refused = true
	return r
}

// check tells what was lost: "of 3: 2; late: 1".
func check(u Updates) string {
	return fmt.Sprintf("of %d: %v; late: %v", u.Written, u.Violations(), u.Elements[u.Lost-u.Late:])
}

func TestLostUpdates(t *testing.T) {
	const margin = 10
	for name, c := range map[string]struct {
		rounds       []Round
		final        Element
		plain, fence string // "" : the same
	}{
		"nothing written":      {nil, 0, "of 0: []; late: []", ""},
		"nothing lost":         {[]Round{wrote(1, 0, 1, 2), wrote(2, 1, 3, 4), wrote(3, 2, 5, 6)}, 3, "of 3: []; late: []", ""},
		"in another order":     {[]Round{wrote(3, 2, 5, 6), wrote(1, 0, 1, 2), wrote(2, 1, 3, 4)}, 3, "of 3: []; late: []", ""},
		"skipped":              {[]Round{wrote(1, 0, 1, 4), wrote(2, 0, 2, 5)}, 2, "of 2: [1]; late: []", ""},
		"a branch of two":      {[]Round{wrote(1, 0, 1, 2), wrote(2, 1, 3, 4), wrote(3, 0, 2, 5)}, 3, "of 3: [1 2]; late: []", ""},
		"itself late":          {[]Round{wrote(1, 0, 1, 12), wrote(2, 0, 13, 14)}, 2, "of 2: []; late: [1]", "of 2: [1]; late: []"},
		"just not late":        {[]Round{wrote(1, 0, 1, 11), wrote(2, 0, 13, 14)}, 2, "of 2: [1]; late: []", ""},
		"overwritten late":     {[]Round{wrote(1, 0, 5, 6), wrote(2, 0, 1, 14)}, 2, "of 2: []; late: [1]", "of 2: [1]; late: []"},
		"two overwritten late": {[]Round{wrote(1, 0, 5, 6), wrote(2, 1, 8, 9), wrote(3, 0, 1, 14)}, 3, "of 3: []; late: [1 2]", "of 3: [1 2]; late: []"},
		"overwritten by the dead": {
			[]Round{wrote(1, 0, 5, 6), wrote(2, 0, 1, 0), wrote(3, 2, 30, 31)}, 3, "of 2: []; late: [1]", "of 2: [1]; late: []"},
		"overwritten by the dead at once": {
			[]Round{wrote(1, 0, 5, 6), wrote(2, 0, 1, 0), wrote(3, 2, 10, 11)}, 3, "of 2: [1]; late: []", ""},
		"overwritten by the dead, and never read": {
			[]Round{wrote(1, 0, 5, 6), wrote(2, 0, 1, 0), {Asked: 40}}, 2, "of 1: []; late: [1]", "of 1: [1]; late: []"},
		"acknowledged late, carried out in time": {
			[]Round{wrote(1, 0, 1, 50), wrote(2, 1, 8, 9), wrote(3, 0, 7, 12)}, 3, "of 3: [1 2]; late: []", ""},
		"the dead wrote nothing": {[]Round{wrote(1, 0, 1, 2), wrote(2, 1, 3, 0)}, 1, "of 1: []; late: []", ""},
		"the dead wrote":         {[]Round{wrote(1, 0, 1, 2), wrote(2, 1, 3, 0)}, 2, "of 1: []; late: []", ""},
		"the register lost it":   {[]Round{wrote(1, 0, 1, 2), wrote(2, 1, 3, 4)}, 1, "of 2: [2]; late: []", ""},
		"all is lost":            {[]Round{wrote(1, 0, 1, 2), wrote(2, 1, 3, 4)}, 0, "of 2: [1 2]; late: []", ""},
		"late after it was lost": {[]Round{wrote(1, 0, 1, 4), wrote(2, 0, 4, 5), wrote(3, 2, 7, 90)}, 3, "of 3: [1]; late: []", ""},
		"perhaps before the late one": {
			[]Round{wrote(1, 0, 1, 4), wrote(2, 0, 3, 5), wrote(3, 2, 7, 90)}, 3, "of 3: []; late: [1]", "of 3: [1]; late: []"},
		"a late one before it": {[]Round{wrote(1, 0, 1, 30), wrote(2, 0, 40, 44), wrote(3, 1, 41, 45)}, 3, "of 3: [2]; late: []", ""},
		"brought back by a late one": {
			// 1 is written at once, 2 late, 3 made of 2 at once; then 4, which had read 1, throws out both.
			[]Round{wrote(1, 0, 10, 11), wrote(2, 0, 5, 20), wrote(3, 2, 30, 31), wrote(4, 1, 14, 40)}, 4,
			"of 4: []; late: [2 3]", "of 4: [2 3]; late: []"},
		"without tokens": {[]Round{{Got: 1, Write: &Write{Element: 1, Checked: 1, Acked: 2}}}, 1, "of 1: []; late: []", "of 0: []; late: []"},
	} {
		h := &History{Rounds: c.rounds, Final: c.final, Fenced: c.final}
		plain, fenced, err := h.LostUpdates(margin)
		if c.fence == "" {
			c.fence = c.plain
		}
		if err != nil || check(plain) != c.plain || check(fenced) != c.fence {
			t.Errorf("%s: %s, fenced %s, %v; not %s, fenced %s", name, check(plain), check(fenced), err, c.plain, c.fence)
		}
	}
}

func TestRefusedWritesAreNotInTheFencedRegister(t *testing.T) {
	h := &History{Final: 1, Fenced: 3, Rounds: []Round{
		refused(wrote(1, 0, 1, 50)), wrote(2, 0, 10, 11), {Got: 20, Token: 3, Write: &Write{Element: 3, Read: 2, Fenced: 2, Checked: 20, Acked: 21}}}}
	plain, fenced, err := h.LostUpdates(10)
	if err != nil || check(plain) != "of 3: []; late: [2 3]" || check(fenced) != "of 2: []; late: []" {
		t.Error(check(plain), check(fenced), err)
	}
}

func TestContradictions(t *testing.T) {
	for name, c := range map[string]struct {
		rounds        []Round
		final, fenced Element
		want          string
	}{
		"unknown last state":    {[]Round{wrote(1, 0, 1, 2)}, 7, 1, "plain register: element 7"},
		"unknown state":         {[]Round{wrote(1, 8, 1, 2)}, 1, 1, "plain register: element 8"},
		"unknown, and lost":     {[]Round{wrote(1, 0, 1, 2), wrote(2, 8, 1, 2)}, 1, 1, "plain register: element 8"},
		"made of itself":        {[]Round{wrote(1, 1, 1, 2)}, 1, 1, "made of itself"},
		"a cycle":               {[]Round{wrote(1, 2, 1, 2), wrote(2, 1, 1, 2)}, 1, 1, "made of itself"},
		"a cycle, and lost":     {[]Round{wrote(1, 0, 1, 2), wrote(2, 3, 1, 2), wrote(3, 2, 1, 2)}, 1, 1, "made of itself"},
		"written twice":         {[]Round{wrote(1, 0, 1, 2), wrote(1, 0, 3, 4)}, 1, 1, "round 1"},
		"the empty state":       {[]Round{wrote(0, 0, 1, 2)}, 0, 0, "round 0"},
		"refused, but there":    {[]Round{refused(wrote(1, 0, 1, 2))}, 1, 1, "fenced register: element 1"},
		"unknown fenced state":  {[]Round{wrote(1, 0, 1, 2)}, 1, 9, "fenced register: element 9"},
		"refused, but made use": {[]Round{refused(wrote(1, 0, 1, 2)), wrote(2, 1, 3, 4)}, 2, 2, "fenced register: element 1"},
	} {
		_, _, err := (&History{Rounds: c.rounds, Final: c.final, Fenced: c.fenced}).LostUpdates(time.Second)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUpdatesOfALongHistory(t *testing.T) {
	h := new(History)
	for e := range Element(100_000) {
		h.Rounds = append(h.Rounds, wrote(e+1, e, int64(e), int64(e)+1))
	}
	slices.Reverse(h.Rounds)
	for _, last := range []Element{0, 50_000, 100_000} {
		h.Final, h.Fenced = last, last
		began := time.Now()
		plain, _, err := h.LostUpdates(10)
		if err != nil || plain.Written != 100_000 || plain.Lost != int(100_000-last) {
			t.Error(last, plain.Written, plain.Lost, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Error("it took", took)
		}
	}
}
