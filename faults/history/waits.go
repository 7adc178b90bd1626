package history

import "time"

// Unended is the number of rounds that came neither to the lock nor to an error.
func (h *History) Unended() int {
	n := 0
	for _, r := range h.Rounds {
		if !r.Held() && r.Error == "" {
			n++
		}
	}
	return n
}

// Notice is for how long a holding that a strike took away still passed for alive: from the strike to the last moment at which it said that
// it was. It is about the one that had the lock when the strike struck and lost it since, and if there were several about the one that took
// longest. ok is false if there was none.
func (h *History) Notice(s Strike) (longest time.Duration, ok bool) {
	for _, r := range h.Rounds {
		if r.Held() && r.Lost && r.Got <= s.Struck && s.Struck <= r.end() && (s.Client == nil || *s.Client == r.Client) && !h.survived(s, r) {
			longest, ok = max(longest, time.Duration(r.Alive-s.Struck)), true
		}
	}
	return longest, ok
}

// survived tells whether a holding was alive when the next one struck: what it was lost by is that.
func (h *History) survived(s Strike, r Round) bool {
	for _, next := range h.Faults {
		if next.Struck > s.Struck && next.Struck <= r.Alive {
			return true
		}
	}
	return false
}

// Vacancy is for how long nobody had the lock since a moment: until somebody got it. It is zero if somebody had it just then, as far as is
// certain. ok is false if nobody got it any more.
func (h *History) Vacancy(since int64) (took time.Duration, ok bool) {
	for _, r := range h.Rounds {
		switch {
		case !r.Held():
		case r.Got < since && since < r.Alive:
			return 0, true
		case r.Got >= since && (!ok || time.Duration(r.Got-since) < took):
			took, ok = time.Duration(r.Got-since), true
		}
	}
	return took, ok
}

// Holdings is the number of rounds that had the lock.
func (h *History) Holdings() int {
	n := 0
	for _, r := range h.Rounds {
		if r.Held() {
			n++
		}
	}
	return n
}

// Rate is how many holdings there were in a second.
func (h *History) Rate() float64 {
	if h.Ended <= h.Began {
		return 0
	}
	return float64(h.Holdings()) / time.Duration(h.Ended-h.Began).Seconds()
}

// end is until when a holding may have been alive, as far as is known.
func (r Round) end() int64 {
	switch {
	case r.Over != 0:
		return max(r.Over, r.Alive)
	case r.Free != 0:
		return max(r.Free, r.Alive)
	}
	return max(r.Got, r.Alive)
}
