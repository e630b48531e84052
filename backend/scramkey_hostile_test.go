package backend

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgpoold/wire/scram"
)

// TestHostileServer lets servers break the rules of the exchange.
func TestHostileServer(t *testing.T) {
	keys, err := scram.DeriveKeys("secret", []byte("salt"), 1)
	if err != nil {
		t.Fatal(err)
	}
	cred := Credentials{ClientKey: keys.ClientKey[:], ServerKey: keys.ServerKey[:]}
	md5 := Credentials{MD5Secret: scram.MD5Secret("secret", "app")}
	auth := func(kind uint32, data string) []byte {
		msg := []byte{'R', 0, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(msg[1:], uint32(8+len(data)))
		binary.BigEndian.PutUint32(msg[5:], kind)
		return append(msg, data...)
	}
	sasl := auth(10, "SCRAM-SHA-256\x00\x00")
	ready := []byte{'Z', 0, 0, 0, 5, 'I'}
	ok := append(auth(0, ""), ready...)
	// head reads a message of the client and does not look at it.
	head := func(r io.Reader) error {
		header := make([]byte, 5)
		if _, err := io.ReadFull(r, header); err != nil {
			return err
		}
		_, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(header[1:]))-4)
		return err
	}
	notice := []byte("N\x00\x00\x00\x0cSHI\x00CX\x00\x00")
	for _, tt := range []struct {
		name  string
		cred  Credentials
		sends [][]byte // a message of the client is read between two of them
		want  string
	}{
		{"ok in the middle", cred, [][]byte{sasl, ok}, "without proving"},
		{"ok in the middle, behind a notice", cred, [][]byte{slices.Concat(notice, sasl), ok}, "without proving"},
		{"final before continue", cred, [][]byte{sasl, auth(12, "v=AAAA")}, "before it was complete"},
		{"continue before SASL", cred, [][]byte{auth(11, "r=x,s=AAAA,i=1")}, "out of turn"},
		{"final before SASL", cred, [][]byte{auth(12, "v=AAAA")}, "out of turn"},
		{"another nonce", cred, [][]byte{sasl, auth(11, "r=x,s=AAAA,i=1")}, "nonce"},
		{"SASL twice", cred, [][]byte{sasl, sasl}, "second SASL exchange"},
		{"unknown mechanisms", cred, [][]byte{auth(10, "SCRAM-SHA-1\x00\x00")}, "no SASL mechanism"},
		{"no mechanisms", cred, [][]byte{auth(10, "")}, "no SASL mechanism"},
		{"unknown method", cred, [][]byte{auth(7, "")}, "authentication method 7"},
		{"md5 with a short salt", md5, [][]byte{auth(5, "abc")}, "out of turn"},
		{"md5 twice", md5, [][]byte{auth(5, "abcd"), auth(5, "abcd")}, "out of turn"},
		{"huge authentication message", cred, [][]byte{{'R', 0x7f, 0xff, 0xff, 0xff}}, "impossible length"},
		{"negative length", cred, [][]byte{{'E', 0, 0, 0, 3}}, "impossible length"},
		{"no kind", cred, [][]byte{{'R', 0, 0, 0, 6, 0, 0}}, "impossible length"},
		{"end in a header", cred, [][]byte{{'R', 0, 0}}, "EOF"},
		{"end in a body", cred, [][]byte{sasl[:12]}, "EOF"},
		{"end in a message that passes", cred, [][]byte{{'N', 0, 0, 0, 99, 'S'}}, "EOF"},
		{"end", cred, [][]byte{nil}, "EOF"},
		{"trust, with a notice in front", cred, [][]byte{slices.Concat(notice, ok)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := fakeServer(t, func(conn net.Conn, _ *pgproto3.Backend) error {
				for i, b := range tt.sends {
					if i > 0 {
						if err := head(conn); err != nil {
							return err
						}
					}
					if _, err := conn.Write(b); err != nil {
						return err
					}
				}
				if tt.want == "EOF" {
					return nil
				}
				_, _ = io.Copy(io.Discard, conn) // until the client has given up
				return nil
			})
			cfg := keyConfig(t, addr, "app", nil)
			withKeys(cfg, tt.cred)
			pc, err := pgconn.ConnectConfig(t.Context(), cfg)
			if err == nil {
				_ = pc.Close(t.Context())
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}
