// Package history is what a run of the fault lab writes down, and what is read out of it.
//
// All times are nanoseconds of the machine's monotonic clock, which all its processes share. What a client notes of a holding is certain
// whatever delays the client: Got is read after the call has returned, and Alive before the holding was asked, one last time, whether it is
// alive, and said yes. So two holdings whose times from Got to Alive overlap were both alive at one moment.
package history

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// History is one run: some clients of one library, who read, modify and write shared state under one lock while faults strike.
type History struct {
	Fault   string `json:"fault"`
	Library string `json:"library"`
	Version string `json:"version"`
	Server  string `json:"server"`
	Seed    uint64 `json:"seed"`
	// Validity is how long a key, or a lease, lives without extension.
	Validity time.Duration `json:"validity"`

	// Clients are the library of each client.
	Clients []string `json:"clients,omitempty"`

	// Counted is since when holdings count for shares; 0: from the beginning.
	Counted int64    `json:"counted,omitempty"`
	Began   int64    `json:"began"`
	Ended   int64    `json:"ended"`
	Rounds  []Round  `json:"rounds"`
	Faults  []Strike `json:"faults"`
	// Wrong is what was wrong besides what can be read here: who did not come back, what was left behind.
	Wrong []string `json:"wrong,omitempty"`
	// Final are the last values of the plain and of the fenced register.
	Final  Element `json:"final"`
	Fenced Element `json:"fenced"`
}

// Element is what a round adds to the shared state, told by its number, from 1; 0 is the empty state. A state is its last element, and all
// that were in the state it was made of.
type Element uint64

// Round is one worker's way through the lock. What it did not come to is zero.
type Round struct {
	Client int `json:"client"`
	Worker int `json:"worker"`

	Asked int64 `json:"asked"` // before the call that takes the lock
	Got   int64 `json:"got,omitempty"`
	Alive int64 `json:"alive,omitempty"`
	// Lost tells that the holding ended by itself, and Over when that was seen.
	Lost bool  `json:"lost,omitempty"`
	Over int64 `json:"over,omitempty"`
	// Unwound tells that the caller's context was cancelled, and Alive is when the work had come to its end after that, whatever the holding
	// said of itself.
	Unwound bool `json:"unwound,omitempty"`
	// Free and Freed are before and after the call that gives the lock back.
	Free  int64  `json:"free,omitempty"`
	Freed int64  `json:"freed,omitempty"`
	Token int64  `json:"token,omitempty"`
	Error string `json:"error,omitempty"` // of the wait, or why the lock was lost
	Write *Write `json:"write,omitempty"`
}

// Held tells whether the round had the lock.
func (r Round) Held() bool { return r.Got != 0 }

// Write is the last step of a round.
type Write struct {
	Element Element `json:"element"`
	Read    Element `json:"read"`              // the state that it was made of
	Fenced  Element `json:"fencedRead"`        // the same of the fenced register
	Checked int64   `json:"checked"`           // before the holding was asked whether it is alive, and said yes
	Applied int64   `json:"applied,omitempty"` // when the register took it, as it says
	Acked   int64   `json:"acked,omitempty"`
	Refused bool    `json:"refused,omitempty"` // by the fenced register
}

// Strike is a fault, from before it struck until after it was mended.
type Strike struct {
	Name   string `json:"name"`
	Struck int64  `json:"struck"`
	Mended int64  `json:"mended,omitempty"` // 0: never
	Client *int   `json:"client,omitempty"` // whom it struck, if one alone
	// Blocked tells that those whom it struck could not be served until it was mended.
	Blocked bool `json:"blocked,omitempty"`
}

// Save writes the history to a file.
func (h *History) Save(path string) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// Load reads a history that was saved.
func Load(path string) (*History, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	h := new(History)
	if err := json.Unmarshal(text, h); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if h.Library == "" {
		return nil, fmt.Errorf("%s is no history", path)
	}
	return h, nil
}
