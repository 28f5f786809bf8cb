from r1_bench.runtime.benchmark import main

main()
