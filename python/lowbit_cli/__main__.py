from lowbit_cli import main

main()
