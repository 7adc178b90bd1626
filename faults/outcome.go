package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

// outcome is what came of one run.
type outcome struct {
	Fault   string
	Library string
	Version string
	Server  string
	Seed    uint64

	Holdings int
	Overlaps int
	Together time.Duration // for which two were alive, in all
	Plain    history.Updates
	Fenced   history.Updates
	Refused  int            // writes, by the fenced register
	Denied   int            // of them, those that came in time, where nothing was lost
	Notice   *time.Duration // from the strike until the holder that lost the lock by it had noticed
	Vacancy  *time.Duration // from then, or the holder's crash, until somebody had it
	Unended  int

	Live     history.Liveness
	Slow     []string // what exceeds the row's bound
	Complain []string // what clients said of calls that did wrong

	Stuck       bool // nobody got the lock any more
	Crashed     bool // a client was killed, on purpose
	Busy        int  // workers that did not come back when their contexts ended
	Keys        []string
	Connections int
	Goroutines  int
	Leaving     []string // what clients said that could not close

	// Wrong is what it did wrong; empty if it is as a lock should be. Beyond is what the guarantee excludes.
	Wrong  []string
	Left   []string // the part of it that is not about safety: who did not come back, what was left behind
	Beyond []string

	history *history.History
}

// note books what a client said when it left.
func (o *outcome) note(n note, ok bool) {
	switch {
	case !ok:
		o.Leaving = append(o.Leaving, "a client does not answer")
	case n.Error != "":
		o.Leaving = append(o.Leaving, n.Error)
	default:
		o.Goroutines += max(0, n.Health.Goroutines-n.Health.Before)
	}
}

// judge reads the history.
func (o *outcome) judge(f *fault, who Contender) error {
	h := o.history
	o.Fault, o.Library, o.Version, o.Server, o.Seed = h.Fault, h.Library, h.Version, h.Server, h.Seed
	overlaps := h.Overlaps()
	o.Holdings, o.Overlaps, o.Together, o.Unended = h.Holdings(), len(overlaps), overlaps.Total(), h.Unended()
	var err error
	if o.Plain, o.Fenced, err = h.LostUpdates(h.Margin()); err != nil {
		return err
	}
	for _, r := range h.Rounds {
		if r.Write == nil || !r.Write.Refused {
			continue
		}
		if o.Refused++; !f.Excluded && time.Duration(r.Write.Applied-r.Write.Checked) <= h.Margin() {
			o.Denied++
		}
	}
	for _, s := range h.Faults {
		if d, ok := h.Notice(s); ok {
			longest(&o.Notice, d)
		}
	}
	for _, moment := range o.ends() { // where two had it, it was never vacant
		if o.Overlaps > 0 {
			break
		}
		if d, ok := h.Vacancy(moment); ok {
			longest(&o.Vacancy, d)
		}
	}
	o.Live = h.Liveness(turnsOf(len(h.Clients), f.workers()))
	o.Slow = append(f.Bound.exceeded(o.Live), f.also(h)...)
	o.weigh(f.Excluded || slices.Contains(f.Except, who.Library), who.Fences)
	h.Wrong = slices.Concat(o.Left, o.Slow)
	return nil
}

// ends are when holders noticed that they had lost the lock, or crashed.
func (o *outcome) ends() (moments []int64) {
	for _, r := range o.history.Rounds {
		if r.Lost {
			moments = append(moments, r.Over)
		}
	}
	for _, s := range o.history.Faults {
		if s.Name == crashed.name {
			moments = append(moments, s.Struck)
		}
	}
	return moments
}

// longest keeps the longest time.
func longest(most **time.Duration, d time.Duration) {
	if *most == nil || d > **most {
		*most = &d
	}
}

// weigh says what was wrong, in words.
func (o *outcome) weigh(excluded, fences bool) {
	unsafe := &o.Wrong
	if excluded {
		unsafe = &o.Beyond
	}
	say := func(to *[]string, n int, text string, args ...any) {
		if n > 0 {
			*to = append(*to, fmt.Sprintf(text, args...))
		}
	}
	say(unsafe, o.Overlaps, "two holders for %s", short(o.Together))
	say(unsafe, len(o.Plain.Violations()), "%s lost", count(len(o.Plain.Violations()), "update"))
	say(&o.Beyond, o.Plain.Late, "%s lost by late writes", count(o.Plain.Late, "update"))
	if fences {
		say(&o.Wrong, o.Fenced.Lost, "%s lost in spite of tokens", count(o.Fenced.Lost, "update"))
	}
	say(&o.Wrong, o.Denied, "%s refused though it was in time", count(o.Denied, "write"))
	if o.Stuck {
		o.Left = append(o.Left, fmt.Sprintf("nobody had it for %s", short(patience)))
	}
	say(&o.Left, o.Busy, "%s did not end", count(o.Busy, "call"))
	say(&o.Left, o.Unended, "%s without end", count(o.Unended, "wait"))
	say(&o.Left, len(o.Keys), "%s left%s", count(len(o.Keys), "key"), named(o.Keys))
	say(&o.Left, o.Connections, "%s left", count(o.Connections, "connection"))
	say(&o.Left, o.Goroutines, "%s left", count(o.Goroutines, "goroutine"))
	o.Left = append(o.Left, o.Leaving...)
	o.Left = append(o.Left, o.Complain...)
	o.Wrong = append(o.Wrong, o.Left...)
}

// String is a line for the terminal.
func (o *outcome) String() string {
	verdict := "ok"
	if wrong := slices.Concat(o.Wrong, o.Slow); len(wrong) > 0 {
		verdict = "WRONG: " + strings.Join(wrong, ", ")
	} else if len(o.Beyond) > 0 {
		verdict = "beyond the guarantee: " + strings.Join(o.Beyond, ", ")
	}
	if o.Refused > 0 {
		verdict += fmt.Sprintf("; %d refused by its token", o.Refused)
	}
	return fmt.Sprintf("%-24s %-12s %6d holdings, noticed %s, next %s, free %s (in all %s), wait %s, late %s, share %s: %s",
		o.Fault, o.Library, o.Holdings, orNone(o.Notice), orNone(o.Vacancy),
		short(o.Live.Free), short(o.Live.Idle), short(o.Live.Wait), short(o.Live.Late), ratio(o.Live.Share()), verdict)
}

// named is the first of some keys.
func named(keys []string) string {
	if len(keys) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s)", keys[0])
}

func orNone(d *time.Duration) string {
	if d == nil {
		return "-"
	}
	return short(*d)
}

// short is a time with two digits.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 1*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
