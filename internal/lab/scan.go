package lab

import (
	"bytes"
	"errors"
	"strconv"
)

var errNotRESP = errors.New("lab: not a RESP command")

// parseCommand reads one command from the beginning of b. n is its length, 0 when it is not whole yet.
func parseCommand(b []byte) (args []string, n int, err error) {
	count, n, err := header(b, '*')
	if err != nil || n == 0 {
		return nil, 0, err
	}
	if count < 1 {
		return nil, 0, errNotRESP
	}
	for range count {
		size, m, err := header(b[n:], '$')
		if err != nil || m == 0 {
			return nil, 0, err
		}
		n += m
		if size < 0 {
			return nil, 0, errNotRESP
		}
		if len(b) < n+size+2 {
			return nil, 0, nil
		}
		args = append(args, string(b[n:n+size]))
		n += size + 2
	}
	return args, n, nil
}

// header reads a line of a kind and a number; n is its length, 0 when it is not whole yet.
func header(b []byte, kind byte) (value, n int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if b[0] != kind {
		return 0, 0, errNotRESP
	}
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) > 32 {
			return 0, 0, errNotRESP
		}
		return 0, 0, nil
	}
	if value, err = strconv.Atoi(string(bytes.TrimSuffix(b[1:end], []byte{'\r'}))); err != nil {
		return 0, 0, errNotRESP
	}
	return value, end + 1, nil
}

// scanner finds where the values in a stream of RESP end, in whatever pieces the stream comes. What is not RESP passes as one
// value without an end. The zero scanner stands before the first value.
type scanner struct {
	push bool // the value being read, or read last, is a push

	begun bool   // within a value
	need  int    // values still to come until the one that began first is whole
	skip  int    // bytes of a string still to come
	line  []byte // the beginning of a header
	alien bool   // not RESP
}

// fresh reports whether the next byte begins a value.
func (s *scanner) fresh() bool { return !s.begun && !s.alien }

// next takes bytes up to the end of the value being read: how many, and whether they end it.
func (s *scanner) next(b []byte) (n int, whole bool) {
	if s.alien {
		return len(b), false
	}
	if !s.begun {
		s.begun, s.need, s.push = true, 1, b[0] == '>'
	}
	for n < len(b) {
		if s.skip > 0 {
			k := min(s.skip, len(b)-n)
			s.skip -= k
			n += k
		} else {
			end := bytes.IndexByte(b[n:], '\n')
			if end < 0 {
				s.line = append(s.line, b[n:]...)
				return len(b), false
			}
			s.line = append(s.line, b[n:n+end+1]...)
			n += end + 1
			if !s.header() {
				s.alien = true
				return len(b), false
			}
			s.line = s.line[:0]
		}
		if s.skip == 0 && s.need == 0 {
			s.begun = false
			return n, true
		}
	}
	return n, false
}

// header takes the line into account. need counts a string as soon as its header is read, and an aggregate as its parts.
func (s *scanner) header() bool {
	line := bytes.TrimRight(s.line, "\r\n")
	if len(line) == 0 {
		return false
	}
	kind := line[0]
	if bytes.IndexByte([]byte("+-:_,#("), kind) >= 0 {
		s.need--
		return true
	}
	size, err := strconv.Atoi(string(line[1:]))
	if err != nil {
		return false
	}
	switch kind {
	case '$', '!', '=':
		s.need--
		if size >= 0 {
			s.skip = size + 2
		}
	case '*', '~', '>':
		s.need += max(size, 0) - 1
	case '%':
		s.need += 2*size - 1
	case '|': // attributes stand before the value that they describe
		s.need += 2 * size
	default:
		return false
	}
	return true
}
