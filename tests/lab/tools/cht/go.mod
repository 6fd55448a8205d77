module cht.k3s/lab/cht

go 1.25

tool cht.k3s/lab/cht
