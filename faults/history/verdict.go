package history

import (
	"fmt"
	"strings"
	"time"
)

// verdict is what the picture says of a history in figures.
type verdict struct {
	overlaps      Overlaps
	plain, fenced Updates
	unended       int
	wrong         []string
	lost          map[Element]string // class of the mark
}

func (h *History) judge(margin time.Duration) (verdict, error) {
	if margin == 0 {
		margin = h.Margin()
	}
	plain, fenced, err := h.LostUpdates(margin)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{overlaps: h.Overlaps(), plain: plain, fenced: fenced, unended: h.Unended(), wrong: h.Wrong, lost: make(map[Element]string)}
	for i, e := range plain.Elements {
		v.lost[e] = "late"
		if i < len(plain.Violations()) {
			v.lost[e] = "gone"
		}
	}
	for _, e := range fenced.Elements {
		v.lost[e] = "gone"
	}
	return v, nil
}

// figure is a part of the verdict.
type figure struct {
	text string
	bad  bool
}

func (v verdict) figures() []figure {
	overlaps := figure{text: "no overlap"}
	if n := len(v.overlaps); n > 0 {
		text := fmt.Sprintf("%s, %s in all, longest %s", count(n, "overlap", "overlaps"), rounded(v.overlaps.Total()), rounded(v.overlaps.Longest()))
		overlaps = figure{text, true}
	}
	figures := []figure{overlaps}
	if v.plain.Written > 0 {
		figures = append(figures, updatesFigure("update", v.plain))
	}
	if v.fenced.Written > 0 {
		figures = append(figures, updatesFigure("fenced update", v.fenced))
	}
	for _, wrong := range v.wrong {
		figures = append(figures, figure{wrong, true})
	}
	if v.unended > 0 {
		figures = append(figures, figure{count(v.unended, "wait", "waits") + " without end", true})
	}
	return figures
}

func updatesFigure(name string, u Updates) figure {
	n := len(u.Violations())
	f := figure{fmt.Sprintf("%s of %s lost", thousands(n), count(u.Written, name, name+"s")), n > 0}
	if n == 0 {
		f.text = fmt.Sprintf("no %s of %s lost", name, thousands(u.Written))
	}
	if u.Late > 0 {
		f.text += fmt.Sprintf(" (and %s late)", thousands(u.Late))
	}
	return f
}

// rounded leaves three digits of a duration.
func rounded(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return strings.Replace(d.Round(unit).String(), "µ", "μ", 1)
}

// perSecond tells a rate.
func perSecond(rate float64) string {
	if rate < 10 {
		return fmt.Sprintf("%.2g", rate)
	}
	return thousands(int(rate + 0.5))
}
