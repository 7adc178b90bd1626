package history

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzHistory reads all there is to read out of a file that may hold anything. It must not panic, nor go on for ever.
func FuzzHistory(f *testing.F) {
	for _, h := range []*History{struck(), chaos(5, 2, 2), {Rounds: []Round{wrote(1, 2, 1, 2), wrote(2, 1, 3, 4)}, Final: 1}} {
		h.Faults = h.Faults[:min(len(h.Faults), 5)]
		text, err := json.Marshal(h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`null`))
	f.Add([]byte(`{"began":-9223372036854775808,"ended":9223372036854775807,"rounds":[{"got":-9223372036854775808,"alive":9223372036854775807},{"got":1,"alive":9}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "history.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := Load(path)
		if err != nil {
			return
		}
		overlaps := h.Overlaps()
		overlaps.Total()
		overlaps.Longest()
		_, _, wrong := h.LostUpdates(h.Margin())
		h.Unended()
		h.Rate()
		h.Liveness(3).Share()
		for _, s := range h.Faults {
			h.Notice(s)
			h.Vacancy(s.Struck)
		}
		if err := h.Picture(io.Discard); (err == nil) != (wrong == nil) {
			t.Error(err, wrong)
		}
		_ = h.PictureOf(io.Discard, PictureOptions{From: time.Second, To: time.Millisecond})
	})
}
